"""Run `.pth` checkpoints with torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from oneformer_model.network.oneformer import OneFormer
from oneformer_model.weights import sources
from oneformer_spec.errors import CheckpointError
from oneformer_spec.segmentation.segmenter import Run, Segmenter


def open(
    path: str | Path,
    device: str = "auto",
    num_threads: int | None = None,
    key: str | None = None,
    precision: str = "fp32",
) -> Segmenter:
    """Open a checkpoint for segmentation.

    Args:
        path: A checkpoint of ours or a foreign one; anything that `oneformer_model.load` reads.
        device: "cpu", "cuda", "cuda:N", or "auto": a GPU if there is one, else the CPU.
        num_threads: CPU threads of this process; None: torch's default.
        key: Key of an encrypted file; None: the value of ONEFORMER_ENCRYPTION_KEY.
        precision: "fp32", or "bf16" to run under torch's autocast.

    Raises:
        CheckpointError: The file cannot be read, or the device does not exist.
    """
    target = _device(path, device)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    weights = sources.read(path, key=key)
    return Segmenter(_runner(weights.model().to(target), target, precision), weights.manifest)


def _device(path: str | Path, name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CheckpointError(f"{path}: no device {name!r}; available: auto, cpu, cuda and cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(f"{path}: no device {name!r}: torch finds {torch.cuda.device_count()} GPUs")
    return device


def _runner(model: OneFormer, device: torch.device, precision: str) -> Run:
    cast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

    def run(image: NDArray[np.float32], task_tokens: NDArray[np.float32]) -> tuple[Any, Any]:
        with torch.inference_mode(), cast:
            prediction = model(torch.from_numpy(image).to(device), torch.from_numpy(task_tokens).to(device))
        return prediction.class_logits, prediction.mask_logits

    return run
