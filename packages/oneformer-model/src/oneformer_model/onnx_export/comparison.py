"""The proof that an ONNX graph computes what its network does: on the same images, all logits are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oneformer_model.network.oneformer import OneFormer
from oneformer_spec.errors import OneFormerError
from oneformer_spec.segmentation.frame import Size
from oneformer_spec.segmentation.manifest import Manifest

INPUTS, OUTPUTS = ("image", "task_tokens"), ("class_logits", "mask_logits")
TOLERANCE = 1e-3  # of the largest logit
_ATTEMPTS = 3
_ERRORS_ONLY = 3  # onnxruntime's log level


class Case(NamedTuple):
    """An input of one image and what the network makes of it."""

    image: Tensor
    task_tokens: Tensor
    class_logits: Tensor
    mask_logits: Tensor


def cases(model: OneFormer, manifest: Manifest, size: Size, *, seed: int) -> list[Case]:
    """Return one case per task, an image of `size` (height, width): soft blobs under noise, drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for row in manifest.task_tokens.values():
        blobs = torch.randn(1, 3, -(-size[0] // 16), -(-size[1] // 16), generator=generator) * 2
        image = nn.functional.interpolate(blobs, size=size, mode="bilinear")
        image = image + torch.randn(image.shape, generator=generator) * 0.2
        tokens = torch.tensor([row], dtype=torch.float32)
        with torch.inference_mode():
            prediction = model(image, tokens)
        found.append(Case(image, tokens, prediction.class_logits, prediction.mask_logits))
    return found


def prove(
    graph: onnx.ModelProto, model: OneFormer, manifest: Manifest, sizes: Sequence[Size], batch: int | None
) -> None:
    """Run the graph in onnxruntime and compare all logits with the model's.

    Args:
        graph: What was written.
        model: What it was written from, on the CPU.
        manifest: Its task tokens.
        sizes: Height and width of the images to compare with.
        batch: The only batch size of the graph; None compares two, 1 and the number of tasks.

    Raises:
        OneFormerError: They differ at some size; a fresh image was tried first. A mask logit on the edge of its
            threshold may turn one bit of an attention mask, which moves the queries of that image. A wrong graph is
            wrong for every image.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen exception types of no common base
        raise OneFormerError(f"onnxruntime cannot load the exported graph: {' '.join(str(error).split())}") from error
    for size in sizes:
        differences: list[float] = []
        while not differences or differences[-1] > TOLERANCE:
            if len(differences) == _ATTEMPTS:
                raise OneFormerError(
                    f"the exported graph is wrong: at {size[1]} x {size[0]} pixels its logits differ from the "
                    f"checkpoint's by {min(differences):.2g} of the largest"
                )
            tried = cases(model, manifest, size, seed=len(differences))
            differences.append(
                max(_difference(session, [tried[row] for row in rows]) for rows in _batches(batch, len(tried)))
            )


def _batches(batch: int | None, tasks: int) -> list[list[int]]:
    """Return which tasks stand in each batch: an open batch is tried with one row and with a row per task."""
    if batch is None:
        return [*([task] for task in range(tasks)), [*range(tasks)]]
    return [[(task + row) % tasks for row in range(batch)] for task in range(tasks)]


def _difference(session: onnxruntime.InferenceSession, batch: Sequence[Case]) -> float:
    """Return the largest difference of class or mask logits, each as a part of the largest logit of its kind."""
    feeds = {name: torch.cat([getattr(case, name) for case in batch]).numpy() for name in INPUTS}
    try:
        found: Sequence[NDArray[np.float32]] = session.run(list(OUTPUTS), feeds)
    except Exception as error:  # as above
        shape = " x ".join(map(str, feeds["image"].shape))
        raise OneFormerError(
            f"the exported graph is wrong: it does not run on {shape}: {' '.join(str(error).split())}"
        ) from error
    differences = []
    for name, logits in zip(OUTPUTS, found, strict=True):
        expected = torch.cat([getattr(case, name) for case in batch]).numpy()
        if logits.shape != expected.shape:
            raise OneFormerError(f"the exported graph is wrong: {name} has shape {logits.shape}, not {expected.shape}")
        differences.append(float(np.abs(logits - expected).max() / np.abs(expected).max()))
    return max(differences)
