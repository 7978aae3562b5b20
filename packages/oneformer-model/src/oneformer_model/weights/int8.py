"""Store weights of a checkpoint in 8 bits: int8 values under the weight's name, and a second tensor with row scales.

These are plain tensors, so `torch.load(weights_only=True)` reads them and no library is needed. On reading they become
float32 again, W = int8 * scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from oneformer_spec.errors import CheckpointError

SCALE = ".int8_scale"


def stored(state: Mapping[str, Tensor], quantized: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return tensors with some weights in 8 bits: `quantized` maps their names to int8 (R, …) and scales (R)."""
    result = dict(state)
    for name, (values, scales) in quantized.items():
        result[name], result[name + SCALE] = values, scales
    return result


def restored(state: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """Return the tensors with 8-bit weights converted back to float32; all others are unchanged.

    Raises:
        CheckpointError: Scales do not fit their weights.
    """
    result = {name: value for name, value in state.items() if not name.endswith(SCALE)}
    for key, scales in state.items():
        if not key.endswith(SCALE):
            continue
        name = key.removesuffix(SCALE)
        values = state.get(name)
        if values is None or values.dtype != torch.int8 or scales.shape != values.shape[:1]:
            raise CheckpointError(f"{source}: its tensors do not fit: {key} has no int8 weights of as many rows")
        result[name] = values.float() * scales.float().reshape(-1, *[1] * (values.ndim - 1))
    return result
