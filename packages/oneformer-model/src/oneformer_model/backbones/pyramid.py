"""The simple feature pyramid (ViTDet, Li et al., 2022, section 3 and appendix A): one map becomes one per stride."""

from __future__ import annotations

import math
from collections.abc import Mapping

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

WIDTH = 256


class SimpleFeaturePyramid(nn.Module):
    """Maps of `strides` from a map whose stride is a power of two: deconvolutions to finer, pooling to coarser ones."""

    def __init__(self, dim: int, *, stride: int, strides: Mapping[str, int]) -> None:
        super().__init__()
        self.levels = nn.ModuleDict(
            {name: _level(dim, doublings=int(math.log2(stride / target))) for name, target in strides.items()}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return a map (B, WIDTH, h * stride / s, w * stride / s) for each stride s from a map (B, dim, h, w)."""
        return {name: level(x) for name, level in self.levels.items()}


def _level(dim: int, *, doublings: int) -> nn.Sequential:
    """Return layers that double a map's size that often; a negative number halves it."""
    layers: list[nn.Module] = [nn.MaxPool2d(2**-doublings)] if doublings < 0 else []
    for step in range(doublings):
        if step:
            layers += [LayerNorm2d(dim), nn.GELU()]
        layers.append(nn.ConvTranspose2d(dim, dim // 2, 2, stride=2))
        dim //= 2
    return nn.Sequential(
        *layers,
        nn.Conv2d(dim, WIDTH, 1, bias=False),
        LayerNorm2d(WIDTH),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        LayerNorm2d(WIDTH),
    )
