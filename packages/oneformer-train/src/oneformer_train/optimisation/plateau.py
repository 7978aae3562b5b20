"""AutoReduce: the learning rate falls when the loss that it watches has stopped falling."""

from __future__ import annotations

import math
from typing import Any

_THRESHOLD = 1e-4  # the part of the best loss that counts as an improvement, as in torch's ReduceLROnPlateau


class Plateau:
    """A factor on the learning rates that is multiplied with `gamma` after a while without improvement.

    `patience` validations in a row without improvement are borne, the next one reduces; then counting starts anew. A
    loss improves when it is below the best so far by more than one part in ten thousand.
    """

    def __init__(self, *, gamma: float, patience: int) -> None:
        """Start with the factor 1 and no loss."""
        self.gamma = gamma
        self.patience = patience
        self.factor = 1.0
        self._best = math.inf
        self._without_improvement = 0

    def observe(self, loss: float) -> bool:
        """Take note of the loss at a validation; return whether the factor fell."""
        if loss < (self._best - abs(self._best) * _THRESHOLD if math.isfinite(self._best) else math.inf):
            self._best, self._without_improvement = loss, 0
            return False
        self._without_improvement += 1
        if self._without_improvement <= self.patience:
            return False
        self.factor *= self.gamma
        self._without_improvement = 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what has been seen; the settings are the spec's."""
        return {"factor": self.factor, "best": self._best, "without_improvement": self._without_improvement}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self.factor, self._best = float(state["factor"]), float(state["best"])
        self._without_improvement = int(state["without_improvement"])
