"""Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022) as a feature extractor.

Letters: B batch, H W tokens of a map, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oneformer_model.backbones.neighborhood_attention import NeighborhoodAttention
from oneformer_model.backbones.swin import DropPath, Mlp


def _halving(channels: int, out_channels: int, *, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=bias)


class ConvTokenizer(nn.Module):
    """Two overlapping convolutions: (B, 3, H, W) -> (B, ceil(H / 4), ceil(W / 4), C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(_halving(3, dim // 2, bias=True), _halving(dim // 2, dim, bias=True))
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image of any size."""
        return self.norm(self.projection(image).permute(0, 2, 3, 1))


class ConvDownsampler(nn.Module):
    """Halves a map and doubles its channels: (B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = _halving(dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise."""
        return self.norm(self.reduction(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class NeighborhoodBlock(nn.Module):
    """Attention to a neighbourhood, then an MLP; norms before both."""

    def __init__(self, dim: int, *, attention: NeighborhoodAttention, mlp: Mlp, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map (B, H, W, C)."""
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class NeighborhoodStage(nn.Module):
    """Blocks at one resolution, and the downsampler that leads to the next stage (None after the last)."""

    def __init__(self, blocks: Sequence[NeighborhoodBlock], downsample: ConvDownsampler | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor, recompute: bool) -> tuple[Tensor, Tensor]:
        """Return the stage's map and the input of the next stage."""
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x, x if self.downsample is None else self.downsample(x)


class DilatedNeighborhoodTransformer(nn.Module):
    """DiNAT as OneFormer uses it: a LayerNorm per output, no classifier; stages after the last output are not built.

    Branches are not scaled (layer scale), as in the published large model.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 192,
        mlp_ratio: float = 2.0,
        depths: Sequence[int] = (3, 4, 18, 5),
        num_heads: Sequence[int] = (6, 12, 24, 48),
        kernel_size: int = 7,
        drop_path_rate: float = 0.3,
        dilations: Sequence[Sequence[int]] | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if list(out_features) != [f"res{index + 2}" for index in out_indices]:
            raise ValueError(f"out_features {list(out_features)} and out_indices {list(out_indices)} disagree")
        if not 0 <= min(out_indices) <= max(out_indices) < len(depths) == len(num_heads):
            raise ValueError(
                f"depths {depths}, num_heads {num_heads} and out_indices {out_indices} do not fit together"
            )
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: found {kernel_size}, expected an odd number: a token and what is around it")
        if dilations is None:
            dilations = [[1] * depth for depth in depths]
        if [len(stage) for stage in dilations] != list(depths):
            found = [len(stage) for stage in dilations]
            raise ValueError(f"dilations: found lists of {found}, expected one number per block: {list(depths)}")
        dims = [embed_dim * 2**stage for stage in range(max(out_indices) + 1)]
        self.channels = {f"res{index + 2}": dims[index] for index in sorted(out_indices)}
        self.strides = {f"res{index + 2}": 4 * 2**index for index in sorted(out_indices)}
        self.tokenizer = ConvTokenizer(embed_dim)
        total = sum(depths)
        paths = iter([drop_path_rate * index / max(total - 1, 1) for index in range(total)])  # rises over all stages

        def block(dim: int, heads: int, dilation: int) -> NeighborhoodBlock:
            attention = NeighborhoodAttention(dim, num_heads=heads, kernel=kernel_size, dilation=dilation)
            mlp = Mlp(dim, int(dim * mlp_ratio), 0.0)
            return NeighborhoodBlock(dim, attention=attention, mlp=mlp, drop_path=next(paths))

        self.stages = nn.ModuleList()
        for stage, dim in enumerate(dims):
            blocks = [block(dim, num_heads[stage], dilation) for dilation in dilations[stage]]
            self.stages.append(NeighborhoodStage(blocks, ConvDownsampler(dim) if stage < len(dims) - 1 else None))
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name, dim in self.channels.items()})
        self.use_checkpoint = use_checkpoint
        self._initialise()

    def _initialise(self) -> None:
        """Draw linear weights from a truncated normal of 0.02; their biases are zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass instead of keeping them."""
        self.use_checkpoint = enable

    def stem_and_stages(self) -> list[nn.Module]:
        """Return the stem, then each stage, in the order in which `freeze_at` counts them."""
        return [self.tokenizer, *self.stages]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return a map (B, C, ceil(H / stride), ceil(W / stride)) per output, in channels-last memory."""
        x = self.tokenizer(image)
        recompute = self.use_checkpoint and self.training
        features: dict[str, Tensor] = {}
        for index, stage in enumerate(self.stages):
            maps, x = stage(x, recompute)
            name = f"res{index + 2}"
            if name in self.channels:
                features[name] = self.norms[name](maps).permute(0, 3, 1, 2)
        return features
