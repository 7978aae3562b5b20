"""A loss or a gradient that is no finite number stops the run before it changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from oneformer_spec.errors import OneFormerError

_SHOWN = 8  # names of pictures in an error


class NonFiniteError(OneFormerError):
    """A loss, or the norm of the gradients, is NaN or infinite; nothing was changed by the step."""

    def __init__(self, what: str, terms: Mapping[str, float]) -> None:
        """Name what is no finite number, and the terms of the loss."""
        self.what = what
        self.terms = dict(terms)
        self.step = 0
        self.names: Sequence[str] = ()
        self.file: Path | None = None
        super().__init__(what)

    def __str__(self) -> str:
        """Name the step, the terms, the pictures of the batch, and the file that replays it."""
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        names = ", ".join(self.names[:_SHOWN]) + (", …" if len(self.names) > _SHOWN else "")
        replay = f"; python -m oneformer_train.diagnosis.replay {self.file} shows where it begins" if self.file else ""
        return f"step {self.step}: {self.what} is not finite ({terms}); images {names}{replay}"


def check_finite(what: str, value: Tensor, terms: Mapping[str, Tensor]) -> None:
    """Raise where a number that all ranks know is NaN or infinite, so that they stop together.

    Args:
        what: Its name.
        value: The same on every rank.
        terms: This rank's own terms of the loss.

    Raises:
        NonFiniteError: It is.
    """
    whole = value.full_tensor() if isinstance(value, DTensor) else value  # the norm of a sharded model is in parts
    if not torch.isfinite(whole.detach()):
        raise NonFiniteError(what, {name: term.item() for name, term in terms.items()})
