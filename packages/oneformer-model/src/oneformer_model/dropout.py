"""Dropout (Srivastava et al., 2014) whose random numbers do not take longer than the layer that it acts on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 15  # random bits per element: torch draws whole numbers of 63 bits, which make four of them


def dropout(x: Tensor, rate: float) -> Tensor:
    """Drop elements with a probability of `rate`, in steps of 1 / 32768, and scale the others so that the mean stays.

    On a CPU four elements share one random number: torch's own takes a draw for each, a tenth of a training step.
    """
    dropped = round(rate * _LEVELS)
    if x.device.type != "cpu" or not 0 < dropped < _LEVELS or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_()
    levels = numbers.view(torch.int16)[: x.numel()].bitwise_and_(_LEVELS - 1).view(x.shape)
    return x.masked_fill(levels < dropped, 0.0).mul_(_LEVELS / (_LEVELS - dropped))


class Dropout(nn.Dropout):
    """`dropout` in training, nothing in inference."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of `x`."""
        return dropout(x, self.p) if self.training and self.p > 0 else x
