"""MaskFormer's pixel decoders (Cheng et al., 2021): a feature pyramid, alone or below a transformer encoder.

Section 3.3 and appendix A have the pyramid; the encoder on its coarsest map is DETR's (Carion et al., 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oneformer_model.network.layers import ClassTransformerLayer
from oneformer_model.network.norms import NORMS, ConvNorm
from oneformer_model.network.pixel_features import PixelFeatures, decoded_levels
from oneformer_model.network.positions import sine_code


class MapEncoder(nn.Module):
    """A transformer encoder over the pixels of one map, which is projected to `dim` first."""

    def __init__(
        self,
        channels: int,
        *,
        dim: int,
        num_heads: int,
        hidden: int,
        num_layers: int,
        dropout: float = 0.0,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.use_checkpoint = False
        self.projection = nn.Conv2d(channels, dim, 1)
        self.layers = nn.ModuleList(
            ClassTransformerLayer(dim, num_heads, hidden, dropout=dropout, pre_norm=pre_norm, looks_across=False)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim) if pre_norm else nn.Identity()
        _initialise(self.projection)

    def forward(self, x: Tensor) -> Tensor:
        """Encode a map (B, channels, h, w) into (B, dim, h, w)."""
        height, width = x.shape[2:]
        position = sine_code(height, width, self.dim, x.device)  # (hw, dim)
        x = self.projection(x).flatten(2).transpose(1, 2)  # (B, hw, dim)
        for layer in self.layers:
            if self.use_checkpoint and self.training:
                x = checkpoint(layer, x, position, use_reentrant=False)
            else:
                x = layer(x, position)
        return self.norm(x).transpose(1, 2).unflatten(2, (height, width))


class PyramidStep(nn.Module):
    """One level of the pyramid: the coarser map, enlarged to the level's size, plus the level, then a convolution."""

    def __init__(self, channels: int, *, dim: int, norm: str) -> None:
        super().__init__()
        self.lateral = ConvNorm(nn.Conv2d(channels, dim, 1, bias=False), NORMS[norm](dim))
        self.output = ConvNorm(nn.Conv2d(dim, dim, 3, padding=1, bias=False), NORMS[norm](dim))

    def forward(self, coarser: Tensor, feature: Tensor) -> Tensor:
        """Merge (B, dim, h / 2, w / 2) and the backbone's (B, channels, h, w) into (B, dim, h, w)."""
        lateral = self.lateral(feature)
        return F.relu(self.output(lateral + F.interpolate(coarser, size=lateral.shape[2:], mode="nearest")))


class PyramidPixelDecoder(nn.Module):
    """A feature pyramid from the coarsest map to the finest, with an `encoder` on the coarsest where there is one."""

    def __init__(
        self,
        *,
        channels: Mapping[str, int],
        strides: Mapping[str, int],
        features: Sequence[str],
        common_stride: int,
        dim: int,
        mask_dim: int,
        num_output_levels: int = 3,
        norm: str = "GN",
        encoder: MapEncoder | None = None,
    ) -> None:
        """Build for the backbone's levels that `channels` and `strides` describe.

        `decoded_levels` says which of them are read and what cannot be built; `encoder` takes the coarsest of
        `features`.
        """
        super().__init__()
        levels = decoded_levels(features, strides, common_stride=common_stride, num_output_levels=num_output_levels)
        self.coarsest, *self.refined = levels.names
        self.mask_level, self.num_output_levels = levels.masks, num_output_levels
        self._recomputes = False
        self.encoder = encoder
        first = channels[self.coarsest] if encoder is None else dim
        self.output = ConvNorm(nn.Conv2d(first, dim, 3, padding=1, bias=False), NORMS[norm](dim))
        self.steps = nn.ModuleDict({name: PyramidStep(channels[name], dim=dim, norm=norm) for name in self.refined})
        self.mask_projection = nn.Conv2d(dim, mask_dim, 3, padding=1)
        _initialise(self.output, self.steps, self.mask_projection)

    @property
    def use_checkpoint(self) -> bool:
        """Recompute activations in the backward pass instead of keeping them."""
        return self._recomputes

    @use_checkpoint.setter
    def use_checkpoint(self, enable: bool) -> None:
        self._recomputes = enable
        if self.encoder is not None:
            self.encoder.use_checkpoint = enable

    def forward(self, features: Mapping[str, Tensor]) -> PixelFeatures:
        """Decode the backbone's maps (B, C, h, w)."""
        coarsest = features[self.coarsest]
        if self.encoder is not None:
            coarsest = self.encoder(coarsest)
        maps = [F.relu(self.output(coarsest))]
        for name in self.refined:
            if self.use_checkpoint and self.training:
                maps.append(checkpoint(self.steps[name], maps[-1], features[name], use_reentrant=False))
            else:
                maps.append(self.steps[name](maps[-1], features[name]))
        return PixelFeatures(self.mask_projection(maps[self.mask_level]), tuple(maps[: self.num_output_levels]))


def _initialise(*parts: nn.Module) -> None:
    """Draw the weights of convolutions as He et al. (2015) do for linear units; biases are zero."""
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
