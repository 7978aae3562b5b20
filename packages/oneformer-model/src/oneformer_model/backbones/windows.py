"""Square windows of a map and the constants of attention inside them.

Letters: B batch, H W tokens of a map, C channels, K windows of a map, N tokens of a window.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oneformer_model.network.size_cache import cached_by_size


@cached_by_size
def relative_index(window: int, device: torch.device) -> Tensor:
    """Return which row of a bias table serves each pair of tokens of a window, int64 (N * N,)."""
    axis = torch.arange(window, device=device)
    y, x = (part.flatten() for part in torch.meshgrid(axis, axis, indexing="ij"))
    rows = y[:, None] - y + window - 1
    columns = x[:, None] - x + window - 1
    return (rows * (2 * window - 1) + columns).flatten()


@cached_by_size
def shift_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Return 0 for tokens of a rolled window that belong together and -100 for those the roll joined, (K, 1, N, N)."""

    def bands(length: int) -> Tensor:
        index = torch.arange(length, device=device)
        return (index >= length - window).long() + (index >= length - shift).long()

    regions = bands(height)[:, None] * 3 + bands(width)
    windows = split_windows(regions[None, :, :, None], window)[0, :, :, 0]  # (K, N)
    apart = windows[:, None, :, None] != windows[:, None, None, :]
    return apart.float() * -100.0


def split_windows(x: Tensor, window: int) -> Tensor:
    """Cut maps (B, H, W, C), whose sizes are multiples of `window`, into windows (B, K, N, C)."""
    _, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x.view(-1, rows, window, columns, window, channels)
    return x.transpose(2, 3).reshape(-1, rows * columns, window * window, channels)


def join_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Put windows, (B * K, N, C) in the order of `split_windows`, back into maps (B, H, W, C)."""
    channels = windows.shape[2]
    x = windows.view(-1, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(-1, height, width, channels)
