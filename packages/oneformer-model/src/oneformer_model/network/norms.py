"""Norms of convolution maps, by their name in the spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

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
        if x.device.type == "cpu" and not x.is_contiguous() and not torch.compiler.is_compiling():
            x = x - self._group_means(x.detach())
        return super().forward(x)

    def _group_means(self, x: Tensor) -> Tensor:
        """Return the mean of each channel's group, (B, C, 1, 1)."""
        means = x.mean(dim=(2, 3)).unflatten(1, (self.num_groups, -1)).mean(dim=2, keepdim=True)  # (B, G, 1)
        return means.expand(-1, -1, self.num_channels // self.num_groups).reshape(x.shape[0], self.num_channels, 1, 1)


class _SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient, too, is the sum of theirs.

    torch's own is deprecated, and keeps the first group of a process, with its threads, to the process's end.
    """

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _SumOfAll.forward(context, gradient)


class SyncBatchNorm(nn.SyncBatchNorm):
    """Batch normalisation over the batches of all processes, on CPUs too, where torch's own raises.

    Without a process group it is plain batch normalisation.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (B, C, h, w)."""
        grouped = self.training and dist.is_available() and dist.is_initialized()
        return self._together(x) if grouped and x.device.type == "cpu" else super().forward(x)

    def _together(self, x: Tensor) -> Tensor:
        values = x.float().transpose(0, 1).flatten(1)  # (C, B h w)
        count = _SumOfAll.apply(torch.tensor(float(values.shape[1])))
        mean = _SumOfAll.apply(values.sum(dim=1)) / count
        centred = values - mean[:, None]
        variance = _SumOfAll.apply(centred.square().sum(dim=1)) / count
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        normed = centred * (self.weight * (variance + self.eps).rsqrt())[:, None] + self.bias[:, None]
        return normed.unflatten(1, (x.shape[0], *x.shape[2:])).transpose(0, 1).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, which serve inference, by `momentum` towards those of a batch."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "GN": lambda channels: GroupNorm(math.gcd(_GROUPS, channels), channels),
    "LN": LayerNorm2d,
    "BN": nn.BatchNorm2d,
    "SyncBN": SyncBatchNorm,
}
"""Norms of the lateral and output convolutions, by their name in the spec."""


def channels_last(x: Tensor) -> Tensor:
    """Return a map (B, C, H, W) in channels-last memory, where a convolution of 1 x 1 is a matrix product.

    On row-major maps the CPU takes ten times as long for it, and adding maps of different order twenty times.
    """
    return x if torch.compiler.is_compiling() else x.contiguous(memory_format=torch.channels_last)


class ConvNorm(nn.Module):
    """A convolution and the norm after it."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise (B, C, H, W)."""
        return cast(Tensor, self.norm(self.conv(channels_last(x))))
