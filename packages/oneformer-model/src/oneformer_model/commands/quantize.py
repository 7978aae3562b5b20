"""Quantize the weights of a checkpoint to 8 bits with torchao, for a quarter of the size."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oneformer_model.weights import checkpoint, int8, sources
from oneformer_spec.commands.run_folder import RunFolder
from oneformer_spec.errors import CheckpointError, SpecError, UsageError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import check_installed
from oneformer_spec.hooks import ChooseLayers
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.manifest import Manifest

FILE_NAME, REPORT = "model_int8.pth", "quantize.json"
RECORD = "quantized"  # entry of the checkpoint that says what was done
EXACT = "task_encoder."  # multiplies token ids of up to 49407, which would magnify rounding errors
ALGORITHMS = ("minmax", "max", "rtn_dq")  # all the same for weights: the largest of a row becomes 127
_SIZE = 256  # pixels per edge of the image on which outputs are compared


def run(spec: Spec, choose: ChooseLayers) -> None:
    """Write `model_int8.pth`, for inference, and `quantize.json` into the results folder.

    With `encryption_key` the checkpoint is encrypted; the source may be encrypted, too.

    Raises:
        SpecError: Mode, algorithm, an option or a layer is not supported with torchao.
        UsageError: torchao is not installed.
        CheckpointError: The file cannot be read or is already quantized.
    """
    options, key = spec.quantize, spec.encryption_key
    _check(spec)
    if key:
        check_installed()
    found = sources.read(str(options.model_path), key=key)
    if found.kind == sources.OURS and RECORD in checkpoint.read(found.source, key):
        raise CheckpointError(f"{found.source}: is already quantized; quantize the original file instead")
    model = found.model()
    layers = {
        name: type(module).__name__
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(EXACT)
    }
    chosen = choose(layers)
    device = torch.device(_device(options.device))
    with RunFolder.open(spec, "quantize") as folder:
        before = _logits(model, found.manifest)
        state = int8.stored(model.state_dict(), _quantized(model.to(device), set(chosen)))
        target = folder.path / FILE_NAME
        record = {RECORD: _record(spec, chosen)}
        checkpoint.save(target, state_dict=state, manifest=found.manifest, extra=record, key=key)
        after = _logits(sources.load(target, key=key), found.manifest)
        changes = {
            name: float((was - now).abs().mean() / was.abs().mean())
            for name, was, now in zip(("class_logits", "mask_logits"), before, after, strict=True)
        }
        document = {
            "settings": _record(spec, chosen),
            "bytes_before": found.source.stat().st_size if found.source.is_file() else None,
            "bytes_after": target.stat().st_size,
            "change_of_logits": changes,
            "quantized": chosen,
            "kept": [name for name in layers if name not in set(chosen)],
        }
        write_atomically(folder.path / REPORT, f"{json.dumps(document, indent=1)}\n")
    print(f"quantized: {target} ({len(chosen)} of {len(layers)} layers, {target.stat().st_size / 1e6:.1f} MB)")
    print(", ".join(f"{name} change by {change:.2%} of their mean" for name, change in changes.items()))


def _check(spec: Spec) -> None:
    options, problems = spec.quantize, []
    path = Path(str(options.model_path))
    if path.suffix.lower() in (".onnx", ".etlt"):
        problems.append(
            f'quantize.model_path: found "{path}"; torchao quantizes checkpoints; '
            f"for {path.suffix} files set backend: onnxruntime"
        )
    if options.mode == "static_ptq":
        problems.append(
            "quantize.mode: torchao keeps activations as they are: set weight_only_ptq, "
            "or export the model and quantize the .onnx file with backend: onnxruntime"
        )
    if options.algorithm not in (None, *ALGORITHMS):
        problems.append(
            f"quantize.algorithm: found {options.algorithm}, expected one of {', '.join(ALGORITHMS)} with torchao"
        )
    if options.backend_kwargs:
        problems.append(
            f"quantize.backend_kwargs: found {', '.join(options.backend_kwargs)}, expected none with torchao"
        )
    if options.device == "trt":
        problems.append("quantize.device: trt is for .onnx files; torchao quantizes on cpu or cuda")
    if problems:
        raise SpecError(problems)
    if find_spec("torchao") is None:
        raise UsageError("quantize.backend: torchao needs: python -m pip install 'oneformer-model[quantize]'")


def _device(name: str | None) -> str:
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    index = int(name.partition(":")[2] or 0)
    if name != "cpu" and index >= torch.cuda.device_count():
        raise SpecError(f"quantize.device: {name}: torch finds {torch.cuda.device_count()} GPUs")
    return name


def _quantized(model: nn.Module, chosen: set[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return int8 weights (R, C) and scales (R) of the chosen layers, on the CPU."""
    with _silenced():
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(model, Int8WeightOnlyConfig(), filter_fn=lambda module, name: name in chosen)
    found = {}
    for name in chosen:
        weight: Any = model.get_submodule(name).weight  # torchao's own kind of tensor
        found[f"{name}.weight"] = weight.qdata.cpu(), weight.scale.detach().float().reshape(-1).cpu()
    return found


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Silence torchao's messages about versions."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _logits(model: nn.Module, manifest: Manifest) -> tuple[Tensor, Tensor]:
    """Return a model's class and mask logits for one random image and all tasks."""
    image = torch.randn(1, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([*manifest.task_tokens.values()], dtype=torch.float32)
    with torch.inference_mode():
        prediction = model(image.expand(len(tokens), -1, -1, -1), tokens)
    return prediction.class_logits, prediction.mask_logits


def _record(spec: Spec, chosen: list[str]) -> dict[str, Any]:
    return {"backend": "torchao", "mode": spec.quantize.mode, "bits": 8, "layers": len(chosen)}
