"""Codes of positions: fixed sine codes (DETR, appendix A.4), and random ones for learning to begin with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from oneformer_model.network.size_cache import cached_by_size

_TEMPERATURE = 10_000.0
_EPSILON = 1e-6
_CYCLES = (0.5, 6.0)  # fewest and most waves of the random codes over the edge of a map


def sine_code(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Return the code of each pixel of a map in row-major order, (height * width, dim): half of a row is y, then x."""
    rows = _axis_code(height, dim // 2, device)[:, None].expand(-1, width, -1)
    columns = _axis_code(width, dim // 2, device)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), dim=-1).flatten(0, 1)


def fourier_code(edge: int, dim: int) -> Tensor:
    """Return Fourier features of the cells of a square map in random directions, float32 (dim, edge, edge).

    The product of two cells' codes falls off with their distance, equally in all directions (Rahimi and Recht, 2007):
    what looks alike can be told apart by where it lies. Wavelengths from two edges to a sixth of one, evenly spaced by
    their logarithm, make the peak narrow and keep cells that are far apart from looking alike by chance.
    """
    place = (torch.arange(edge) + 0.5) / edge
    fewest, most = map(math.log10, _CYCLES)
    cycles = torch.logspace(fewest, most, dim // 2)[:, None, None]
    y, x = 2 * math.pi * cycles * F.normalize(torch.randn(2, dim // 2, 1, 1), dim=0)
    angles = y * place[:, None] + x * place  # (dim / 2, edge, edge)
    return torch.cat((angles.sin(), angles.cos(), torch.zeros(dim % 2, edge, edge)))


@cached_by_size
def _axis_code(length: int, dim: int, device: torch.device) -> Tensor:
    """Return interleaved sines and cosines of 1 … length scaled to 2 pi, (length, dim)."""
    steps = torch.arange(1, length + 1, dtype=torch.float32, device=device) / (length + _EPSILON) * (2 * math.pi)
    powers = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
    angles = steps[:, None] / _TEMPERATURE**powers
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
