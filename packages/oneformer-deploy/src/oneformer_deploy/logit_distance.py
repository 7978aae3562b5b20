"""How far the outputs of a network move when layers go to INT8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.calibration import Feed
from oneformer_deploy.model_scores import Open

PICTURES = 4  # enough to rank groups of layers


class LogitDistance:
    """Compares a quantized model with the float one on the first calibration pictures."""

    def __init__(
        self, source: Path, candidate: Callable[[list[str]], Path], feeds: Sequence[Feed], open_file: Open
    ) -> None:
        """Compare with the file `source` what `candidate` writes, a file with these layers in INT8."""
        self._source, self._candidate, self._open = source, candidate, open_file
        self._feeds = feeds[:PICTURES]

    def __call__(self, layers: list[str]) -> float:
        """Return the mean change of each output, as a part of its mean magnitude, summed over the outputs."""
        found = self._outputs(self._candidate(layers))
        pairs = zip(self._expected, found, strict=True)
        return float(sum(np.abs(was - now).mean() / np.abs(was).mean() for was, now in pairs))

    @cached_property
    def _expected(self) -> list[NDArray[np.float32]]:
        return self._outputs(self._source)

    def _outputs(self, path: Path) -> list[NDArray[np.float32]]:
        run = self._open(path).run
        return [np.array(output) for feed in self._feeds for output in run(*feed.values())]
