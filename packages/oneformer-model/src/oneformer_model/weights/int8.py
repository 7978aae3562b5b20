"""Weights of a checkpoint in 8 bits: each under its own name as int8, the scales of its rows beside it.

Plain tensors, so `torch.load(weights_only=True)` reads the file and no library is needed to use it: reading gives
float32 back, W = int8 * scale.
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
    """Return float32 weights where 8 bits are stored; what holds none is returned as it is.

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
