"""A backbone alone as an ONNX graph: what `oneformer_model.testing` tries."""

from __future__ import annotations

import io

import onnxruntime
import torch
from torch import Tensor, nn

from oneformer_model.onnx_export.graph import held_at, quiet
from oneformer_model.onnx_export.older_operator_sets import recordable

OPSET = 17


class _Maps(nn.Module):
    """A backbone whose maps come as a tuple."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(image).values())


def exported_maps(backbone: nn.Module, image: Tensor) -> list[Tensor]:
    """Return the maps of an image (B, 3, H, W) as onnxruntime computes them from a graph of that size.

    Raises:
        Exception: Whatever torch's exporter or onnxruntime raises where the backbone cannot be written or run.
    """
    buffer, height, width = io.BytesIO(), *image.shape[2:]
    with torch.no_grad(), held_at(backbone, height, width), quiet(), recordable(sizes_are_open=False):
        torch.onnx.export(
            _Maps(backbone).eval(),
            (image,),
            buffer,  # type: ignore[arg-type]  # this exporter takes files too
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
        )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(value) for value in session.run(None, {"image": image.numpy()})]
