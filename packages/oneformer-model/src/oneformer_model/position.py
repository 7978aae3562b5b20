"""Sine position codes (DETR, appendix A.4), one row per pixel in row-major order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from oneformer_model.constants import constant

_TEMPERATURE = 10_000.0
_EPSILON = 1e-6


def sine_code(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Return the code of each pixel of a map, float32 (height * width, dim): the first half of a row is y, then x."""
    rows = _axis_code(height, dim // 2, device)[:, None].expand(-1, width, -1)
    columns = _axis_code(width, dim // 2, device)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), dim=-1).flatten(0, 1)


@constant
def _axis_code(length: int, dim: int, device: torch.device) -> Tensor:
    """Return interleaved sines and cosines of 1 … length scaled to 2 pi, (length, dim)."""
    steps = torch.arange(1, length + 1, dtype=torch.float32, device=device) / (length + _EPSILON) * (2 * math.pi)
    powers = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
    angles = steps[:, None] / _TEMPERATURE**powers
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
