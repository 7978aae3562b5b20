"""`train.precision` in Lightning's words."""

from __future__ import annotations

from typing import Literal

from oneformer_spec.entry import note

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
_PRECISION: dict[str, Precision] = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def lightning_precision(precision: str, *, on_gpu: bool) -> Precision:
    """Return what a run computes in; weights, losses and matching stay in 32 bit in any case.

    fp16 scales the loss so that small gradients survive. CPUs compute in bf16 instead, which has the range of fp32.
    """
    if precision == "fp16" and not on_gpu:
        note("train.precision: fp16 needs a GPU; on this CPU the forward pass is computed in bf16")
        return _PRECISION["bf16"]
    return _PRECISION[precision]
