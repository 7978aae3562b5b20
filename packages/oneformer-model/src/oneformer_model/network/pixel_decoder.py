"""The multi-scale deformable pixel decoder (Mask2Former, section 3.2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oneformer_model.network.deformable_attention import DeformableAttention, Points, reference_points
from oneformer_model.network.deformable_attention_cpu import Shapes
from oneformer_model.network.layers import Dropout, FeedForwardLayer
from oneformer_model.network.norms import NORMS, ConvNorm
from oneformer_model.network.pixel_features import PixelFeatures, decoded_levels
from oneformer_model.network.positions import sine_code


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward layer; norms after the sums."""

    def __init__(self, dim: int, *, attention: DeformableAttention, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = attention
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForwardLayer(dim, hidden, dropout=dropout)

    def forward(self, x: Tensor, position: Tensor, shapes: Shapes, reference: Points) -> Tensor:
        """Transform the tokens (B, S, dim) of all levels."""
        x = self.norm(x + self.dropout(self.attention(x, position, shapes, reference)))
        return cast(Tensor, self.feed_forward(x))


class DeformablePixelDecoder(nn.Module):
    """Deformable encoder over the coarse maps, then a feature pyramid down to the stride of the masks."""

    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        strides: Mapping[str, int],
        features: Sequence[str],
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
        """Build for the backbone's levels that `channels` and `strides` describe.

        `decoded_levels` says which of them are read and what cannot be built: the encoder sees `encoder_features`, the
        finer ones make the pyramid below it.
        """
        super().__init__()
        levels = decoded_levels(
            features,
            strides,
            common_stride=common_stride,
            num_output_levels=num_output_levels,
            encoded=encoder_features,
        )
        self.encoded, self.refined = levels.names[: len(encoder_features)], levels.names[len(encoder_features) :]
        self.mask_level = levels.masks
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
            summed = lateral + F.interpolate(maps[-1], size=lateral.shape[2:], mode="bilinear", align_corners=False)
            maps.append(F.relu(self.outputs[name](summed)))
        return PixelFeatures(self.mask_projection(maps[self.mask_level]), tuple(maps[: self.num_output_levels]))

    def _encode(self, maps: Mapping[str, Tensor]) -> list[Tensor]:
        """Run the deformable encoder; returns maps in the order of `encoded`, coarsest first."""
        shapes = tuple((x.shape[2], x.shape[3]) for x in maps.values())
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
