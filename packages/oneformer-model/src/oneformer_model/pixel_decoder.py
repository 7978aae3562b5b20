"""The multi-scale deformable pixel decoder (Mask2Former, section 3.2.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oneformer_model.constants import is_traced, plain_sizes
from oneformer_model.deformable import DeformableAttention, Points, reference_points
from oneformer_model.position import sine_code
from oneformer_model.transformer import FeedForwardLayer
from oneformer_model.weighted_bags import Shapes

_GROUPS = 32


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel of (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GroupNorm(nn.GroupNorm):
    """Group normalisation that is as exact for channels-last maps as for row-major ones.

    torch's CPU kernel for channels-last maps takes the variance as E[x^2] - E[x]^2 in float32: with a mean of 50
    deviations it is off by 1.6e-2, where the row-major kernel is off by 5e-6. The result does not depend on a shift of
    a whole group, so its mean is taken off first.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map (B, C, h, w)."""
        if x.device.type == "cpu" and not x.is_contiguous() and not is_traced():
            x = x - self._group_means(x.detach())
        return super().forward(x)

    def _group_means(self, x: Tensor) -> Tensor:
        """Return the mean of each channel's group, (B, C, 1, 1)."""
        means = x.mean(dim=(2, 3)).unflatten(1, (self.num_groups, -1)).mean(dim=2, keepdim=True)  # (B, G, 1)
        return means.expand(-1, -1, self.num_channels // self.num_groups).reshape(x.shape[0], self.num_channels, 1, 1)


NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "GN": lambda channels: GroupNorm(math.gcd(_GROUPS, channels), channels),
    "LN": LayerNorm2d,
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
}
"""Norms of the lateral and output convolutions, by their name in the spec."""


def channels_last(x: Tensor) -> Tensor:
    """Return a map (B, C, H, W) in channels-last memory, where a convolution of 1 x 1 is a matrix product.

    On row-major maps the CPU takes ten times as long for it, and adding maps of different order twenty times.
    """
    return x if is_traced() else x.contiguous(memory_format=torch.channels_last)


class ConvNorm(nn.Module):
    """A convolution and the norm after it."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise (B, C, H, W)."""
        return cast(Tensor, self.norm(self.conv(channels_last(x))))


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward layer; norms after the sums."""

    def __init__(self, dim: int, *, attention: DeformableAttention, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = attention
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForwardLayer(dim, hidden, dropout=dropout)

    def forward(self, x: Tensor, position: Tensor, shapes: Shapes, reference: Points) -> Tensor:
        """Transform the tokens (B, S, dim) of all levels."""
        x = self.norm(x + self.dropout(self.attention(x, position, shapes, reference)))
        return cast(Tensor, self.feed_forward(x))


class PixelFeatures(NamedTuple):
    """What the query decoder sees: `mask_features` (B, D, h, w) and `levels`, maps (B, C, h, w), coarsest first."""

    mask_features: Tensor
    levels: tuple[Tensor, ...]


class DeformablePixelDecoder(nn.Module):
    """Deformable encoder over the coarse maps, then a feature pyramid down to the stride of the masks."""

    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        strides: Mapping[str, int],
        encoder_features: Sequence[str],
        common_stride: int,
        dim: int,
        mask_dim: int,
        num_heads: int,
        num_layers: int,
        hidden: int = 1024,
        num_points: int = 4,
        num_output_levels: int = 3,
        dropout: float = 0.0,
        norm: str = "GN",
        precise: bool = False,
    ) -> None:
        """Build for the backbone outputs that `channels` and `strides` describe.

        Raises:
            ValueError: No output has a stride that is needed, or fewer levels exist than are asked for.
        """
        super().__init__()
        self.encoded = sorted(encoder_features, key=lambda name: -strides[name])
        finest = min(strides[name] for name in encoder_features)
        self.refined = _pyramid(strides, finest, common_stride)
        if num_output_levels > len(self.encoded) + len(self.refined):
            raise ValueError(f"{num_output_levels} feature levels are asked for, the pixel decoder has fewer")
        self.num_output_levels = num_output_levels
        self.dim, self.num_heads, self.num_points = dim, num_heads, num_points
        self.use_checkpoint = False
        self.input_projections = nn.ModuleDict(
            {name: ConvNorm(nn.Conv2d(channels[name], dim, 1), NORMS["GN"](dim)) for name in self.encoded}
        )
        self.level_embedding = nn.Parameter(torch.randn(len(self.encoded), dim))
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                dim,
                attention=DeformableAttention(
                    dim, num_heads=num_heads, num_levels=len(self.encoded), num_points=num_points, precise=precise
                ),
                hidden=hidden,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )
        self.laterals = nn.ModuleDict(
            {name: ConvNorm(nn.Conv2d(channels[name], dim, 1, bias=False), NORMS[norm](dim)) for name in self.refined}
        )
        self.outputs = nn.ModuleDict(
            {name: ConvNorm(nn.Conv2d(dim, dim, 3, padding=1, bias=False), NORMS[norm](dim)) for name in self.refined}
        )
        self.mask_projection = nn.Conv2d(dim, mask_dim, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.input_projections.values():
            conv = cast(nn.Conv2d, module.conv)
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(cast(Tensor, conv.bias))
        for module in (*self.laterals.modules(), *self.outputs.modules(), self.mask_projection):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
        nn.init.zeros_(cast(Tensor, self.mask_projection.bias))

    def forward(self, features: Mapping[str, Tensor]) -> PixelFeatures:
        """Decode the backbone's maps (B, C, h, w)."""
        maps = self._encode({name: self.input_projections[name](features[name]) for name in self.encoded})
        for name in self.refined:
            lateral = self.laterals[name](features[name])
            size = plain_sizes(lateral, 2, 3)
            summed = lateral + F.interpolate(maps[-1], size=size, mode="bilinear", align_corners=False)
            maps.append(F.relu(self.outputs[name](summed)))
        return PixelFeatures(self.mask_projection(maps[-1]), tuple(maps[: self.num_output_levels]))

    def _encode(self, maps: Mapping[str, Tensor]) -> list[Tensor]:
        """Run the deformable encoder; returns maps in the order of `encoded`, coarsest first."""
        shapes = tuple((height, width) for height, width in (plain_sizes(x, 2, 3) for x in maps.values()))
        x = torch.cat([x.flatten(2).transpose(1, 2) for x in maps.values()], dim=1)  # (B, S, dim)
        codes = [
            sine_code(height, width, self.dim, x.device) + level
            for (height, width), level in zip(shapes, self.level_embedding, strict=True)
        ]
        position = torch.cat(codes)  # (S, dim)
        reference = reference_points(shapes, self.num_heads, self.num_points, x.device)
        for layer in self.layers:
            if self.use_checkpoint and self.training:
                x = checkpoint(layer, x, position, shapes, reference, use_reentrant=False)
            else:
                x = layer(x, position, shapes, reference)
        tokens = x.split([height * width for height, width in shapes], dim=1)
        return [part.unflatten(1, shape).permute(0, 3, 1, 2) for part, shape in zip(tokens, shapes, strict=True)]


def _pyramid(strides: Mapping[str, int], finest: int, common_stride: int) -> list[str]:
    """Return the outputs whose strides lead from `finest` (excluded) to `common_stride`, coarse to fine."""
    by_stride = {stride: name for name, stride in strides.items()}
    names = []
    stride = finest
    while stride > common_stride:
        stride //= 2
        if stride not in by_stride:
            raise ValueError(
                f"the backbone has no output of stride {stride}, which masks of stride {common_stride} need"
            )
        names.append(by_stride[stride])
    return names
