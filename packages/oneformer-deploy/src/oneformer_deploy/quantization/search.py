"""Find the layers that can run in INT8 while every score stays within its budget.

First all layers are tried together. If that costs too much, groups of layers are quantized one at a time to measure how
much the network's outputs change; the groups are then ranked by that change, and bisection finds how many of them fit
the budget. So the model is scored at most 1 + log2(groups) times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.quantization.calibration import Feed
from oneformer_deploy.quantization.scores import OpenModel
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import OneFormerError

FEWEST_GROUPS, MOST_GROUPS = 8, 32


@dataclass(frozen=True)
class SearchResult:
    """The outcome of `search`."""

    layers: list[str]
    """The layers to quantize to INT8."""
    scores: Mapping[str, float]
    """Scores of the model with these layers in INT8."""
    evaluations: int
    """How many models were scored."""
    distances: Mapping[str, float] = field(default_factory=dict)
    """How much the network's outputs changed with each group in INT8; empty if no ranking was needed."""


def search(
    layers: Sequence[str],
    *,
    before: Mapping[str, float],
    budget: float,
    score: Callable[[list[str]], dict[str, float]],
    distance: Callable[[list[str]], float],
    report: Callable[[str], None],
) -> SearchResult:
    """Return the largest set of layers found that keeps every score within the budget.

    Args:
        layers: Candidates, in the order of the graph.
        before: Scores of the float model, 0..1.
        budget: How much each score may drop.
        score: Scores a model that has the given layers in INT8.
        distance: Measures how much the outputs change with the given layers in INT8.
        report: Called with one line of progress at a time.

    Raises:
        OneFormerError: Even the least sensitive group exceeds the budget.
    """
    scores = score(list(layers))
    report(f"all {len(layers)} layers in INT8: {_described(before, scores)}")
    if within_budget(before, scores, budget):
        return SearchResult(list(layers), scores, 1)
    groups = group_layers(layers)
    progress = Progress("sensitivity", "groups")
    distances = {}
    for done, (name, members) in enumerate(groups.items(), 1):
        distances[name] = distance(members)
        progress(done, len(groups))
    order = sorted(groups, key=lambda name: distances[name])
    position = {name: index for index, name in enumerate(layers)}
    evaluations, good, bad, best = 1, 0, len(order), None
    while bad - good > 1:
        middle = (good + bad) // 2
        chosen = sorted((name for group in order[:middle] for name in groups[group]), key=position.__getitem__)
        scores = score(chosen)
        evaluations += 1
        report(f"{middle} of {len(order)} groups in INT8: {_described(before, scores)}")
        if within_budget(before, scores, budget):
            good, best = middle, SearchResult(chosen, scores, evaluations, distances)
        else:
            bad = middle
    if best is None:
        raise OneFormerError(
            f"quantize.max_metric_drop: no layer can be quantized within {budget:g}; the least sensitive group, "
            f"{order[0]}, gives {_described(before, scores)}; raise max_metric_drop or calibrate with more images"
        )
    return SearchResult(best.layers, best.scores, evaluations, distances)


def within_budget(before: Mapping[str, float], after: Mapping[str, float], budget: float) -> bool:
    """Whether no score dropped by more than the budget."""
    return all(before[name] - after[name] <= budget for name in before)


def group_layers(layers: Sequence[str]) -> dict[str, list[str]]:
    """Split layers into named groups: by the leading parts of their paths, or into runs of neighbours."""
    for depth in range(1, 8):
        groups: dict[str, list[str]] = {}
        for name in layers:
            groups.setdefault("/".join(name.strip("/").split("/")[:depth]), []).append(name)
        if FEWEST_GROUPS <= len(groups) <= MOST_GROUPS:
            return groups
        if len(groups) > MOST_GROUPS:
            break
    size = -(-len(layers) // MOST_GROUPS)
    return {layers[start]: list(layers[start : start + size]) for start in range(0, len(layers), size)}


def _described(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {after[name]:.4f} ({after[name] - before[name]:+.4f})" for name in before)


DISTANCE_BATCHES = 4  # enough to rank groups of layers


class LogitDistance:
    """Measures how far the outputs of a quantized model are from the float model's, on a few calibration batches."""

    def __init__(
        self, source: Path, write_candidate: Callable[[list[str]], Path], feeds: Sequence[Feed], open_file: OpenModel
    ) -> None:
        """Compare with the float model `source`; `write_candidate` writes a model with the given layers in INT8."""
        self._source, self._write_candidate, self._open = source, write_candidate, open_file
        self._feeds = feeds[:DISTANCE_BATCHES]

    def __call__(self, layers: list[str]) -> float:
        """Return the mean absolute change of each output relative to its mean magnitude, summed over the outputs."""
        outputs = self._outputs(self._write_candidate(layers))
        pairs = zip(self._expected, outputs, strict=True)
        return float(sum(np.abs(before - after).mean() / np.abs(before).mean() for before, after in pairs))

    @cached_property
    def _expected(self) -> list[NDArray[np.float32]]:
        return self._outputs(self._source)

    def _outputs(self, path: Path) -> list[NDArray[np.float32]]:
        run = self._open(path).run
        return [np.array(output) for feed in self._feeds for output in run(*feed.values())]
