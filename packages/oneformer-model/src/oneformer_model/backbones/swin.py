"""Swin Transformer (Liu et al., 2021) as a feature extractor: maps are padded first and rolled second.

Letters: B batch, H W tokens of a map, C channels, K windows of a map, N tokens of a window, M heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oneformer_model.backbones.windows import join_windows, relative_index, shift_mask, split_windows
from oneformer_model.network.layers import Dropout
from oneformer_model.network.positions import fourier_code


class DropPath(nn.Module):
    """Drops the whole residual branch of random samples in training (stochastic depth, Huang et al., 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop branches (B, …); the others grow so that the mean stays."""
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.empty((x.shape[0], *[1] * (x.dim() - 1)), dtype=x.dtype, device=x.device)
        return x * kept.bernoulli_(1 - self.rate) / (1 - self.rate)


class WindowAttention(nn.Module):
    """Self-attention inside windows with a learned bias per relative position."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        window: int,
        qkv_bias: bool,
        qk_scale: float | None,
        attention_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.window, self.scale = window, qk_scale
        self.attention_dropout = attention_dropout
        self.relative_position_bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.projection = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)
        nn.init.trunc_normal_(self.relative_position_bias, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Attend inside each window (B, K, N, C); `mask` (K, 1, N, N) is added to the scores. Returns (B * K, N, C)."""
        qkv = self.qkv(windows).view(-1, self.window**2, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B * K, M, N, C / M)
        x = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=self._bias(mask, windows.shape[0]).to(query.dtype),
            dropout_p=self.attention_dropout if self.training else 0.0,
            scale=self.scale,
        )
        return self.dropout(self.projection(x.transpose(1, 2).flatten(2)))

    def _bias(self, mask: Tensor | None, batch: int) -> Tensor:
        """Return relative position bias plus mask, (1 or B * K, M, N, N)."""
        tokens = self.window**2
        rows = self.relative_position_bias[relative_index(self.window, self.relative_position_bias.device)]
        bias = rows.view(tokens, tokens, self.num_heads).permute(2, 0, 1)[None]
        if mask is None:
            return bias
        bias = bias + mask  # (K, M, N, N)
        return bias.expand(batch, *[-1] * 4).flatten(0, 1)


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (…, dim)."""
        return self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(x)))))


class SwinBlock(nn.Module):
    """Attention in windows, shifted by `shift` tokens, then an MLP."""

    def __init__(self, dim: int, *, attention: WindowAttention, shift: int, mlp: Mlp, drop_path: float) -> None:
        super().__init__()
        self.shift, self.window = shift, attention.window
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map (B, H, W, C)."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        bottom, right = -height % self.window, -width % self.window
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
        size = height + bottom, width + right
        mask = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
            mask = shift_mask(*size, self.window, self.shift, x.device)
        x = join_windows(self.attention(split_windows(x, self.window), mask), self.window, *size)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Halves a map and doubles its channels: (B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge two by two tokens into one; an odd edge is padded with zeros."""
        _, height, width, _ = x.shape
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class PatchEmbedding(nn.Module):
    """Projects square patches: (B, 3, H, W) -> (B, ceil(H / patch), ceil(W / patch), C).

    `position_cells` adds learned positions: a square of that many cells, resized to the map. None adds none.
    """

    def __init__(self, dim: int, *, patch_size: int, norm: bool, position_cells: int | None, dropout: float) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Conv2d(3, dim, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.dropout = Dropout(dropout)
        self.position: nn.Parameter | None = None
        if position_cells is not None:
            # Learning begins with a code instead of noise: tokens know from the first step where they are.
            self.position = nn.Parameter(fourier_code(position_cells, dim)[None])

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image; right and bottom are padded with zeros to whole patches."""
        height, width = image.shape[2:]
        bottom, right = -height % self.patch_size, -width % self.patch_size
        image = F.pad(image, (0, right, 0, bottom))
        x = self.norm(self.projection(image).permute(0, 2, 3, 1))
        if self.position is not None:
            size = x.shape[1:3]
            x = x + F.interpolate(self.position, size=size, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
        return self.dropout(x)


class SwinStage(nn.Module):
    """Blocks at one resolution, and the merging that leads to the next stage (None after the last)."""

    def __init__(self, blocks: Sequence[SwinBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor, recompute: bool) -> tuple[Tensor, Tensor]:
        """Return the stage's map and the input of the next stage."""
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x, x if self.downsample is None else self.downsample(x)


class SwinTransformer(nn.Module):
    """Swin as OneFormer uses it: a LayerNorm per output, no classifier; stages after the last output are not built."""

    def __init__(
        self,
        *,
        embed_dim: int = 192,
        depths: Sequence[int] = (2, 2, 18, 2),
        num_heads: Sequence[int] = (6, 12, 24, 48),
        window_size: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.3,
        ape: bool = False,
        patch_norm: bool = True,
        patch_size: int = 4,
        pretrain_img_size: int = 384,
        use_checkpoint: bool = False,
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        out_indices: Sequence[int] = (0, 1, 2, 3),
    ) -> None:
        super().__init__()
        if list(out_features) != [f"res{index + 2}" for index in out_indices]:
            raise ValueError(f"out_features {list(out_features)} and out_indices {list(out_indices)} disagree")
        if not 0 <= min(out_indices) <= max(out_indices) < len(depths) == len(num_heads):
            raise ValueError(
                f"depths {depths}, num_heads {num_heads} and out_indices {out_indices} do not fit together"
            )
        dims = [embed_dim * 2**stage for stage in range(max(out_indices) + 1)]
        self.channels = {f"res{index + 2}": dims[index] for index in sorted(out_indices)}
        self.strides = {f"res{index + 2}": patch_size * 2**index for index in sorted(out_indices)}
        self.patch_embedding = PatchEmbedding(
            embed_dim,
            patch_size=patch_size,
            norm=patch_norm,
            position_cells=pretrain_img_size // patch_size if ape else None,
            dropout=drop_rate,
        )
        total = sum(depths)
        paths = [drop_path_rate * index / max(total - 1, 1) for index in range(total)]  # rises over all stages

        def block(dim: int, heads: int, position: int, drop_path: float) -> SwinBlock:
            attention = WindowAttention(
                dim,
                num_heads=heads,
                window=window_size,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                attention_dropout=attn_drop_rate,
                dropout=drop_rate,
            )
            mlp = Mlp(dim, int(dim * mlp_ratio), drop_rate)
            shift = window_size // 2 if position % 2 else 0
            return SwinBlock(dim, attention=attention, shift=shift, mlp=mlp, drop_path=drop_path)

        self.stages = nn.ModuleList()
        for stage, dim in enumerate(dims):
            rates = paths[sum(depths[:stage]) : sum(depths[: stage + 1])]
            blocks = [block(dim, num_heads[stage], position, rate) for position, rate in enumerate(rates)]
            self.stages.append(SwinStage(blocks, PatchMerging(dim) if stage < len(dims) - 1 else None))
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name, dim in self.channels.items()})
        self.use_checkpoint = use_checkpoint
        self._initialise()

    def _initialise(self) -> None:
        """Draw linear weights from a truncated normal of 0.02; biases are zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass instead of keeping them."""
        self.use_checkpoint = enable

    def stem_and_stages(self) -> list[nn.Module]:
        """Return the stem, then each stage, in the order in which `freeze_at` counts them."""
        return [self.patch_embedding, *self.stages]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return a map (B, C, ceil(H / stride), ceil(W / stride)) per output, in channels-last memory."""
        x = self.patch_embedding(image)
        recompute = self.use_checkpoint and self.training
        features = {}
        for index, stage in enumerate(self.stages):
            maps, x = stage(x, recompute)
            name = f"res{index + 2}"
            if name in self.channels:
                features[name] = self.norms[name](maps).permute(0, 3, 1, 2)
        return features
