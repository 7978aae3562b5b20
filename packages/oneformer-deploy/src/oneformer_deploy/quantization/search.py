"""Which layers can compute in INT8 without costing more than a score may lose.

All at once is tried first. Where that costs too much, groups of layers are quantized one at a time and the change of
the network's outputs is measured; then the groups are added in the order of that change, and bisection finds how many
go in. So the model is scored at most 1 + log2(groups) times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.quantization.calibration import Feed
from oneformer_deploy.quantization.scores import Open
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import OneFormerError

FEWEST_GROUPS, MOST_GROUPS = 8, 32


@dataclass(frozen=True)
class Found:
    """The layers that go to INT8, their scores, how often the model was scored, and the change that each group made."""

    layers: list[str]
    scores: Mapping[str, float]
    evaluations: int
    distances: Mapping[str, float] = field(default_factory=dict)


def search(
    layers: Sequence[str],
    *,
    before: Mapping[str, float],
    budget: float,
    score: Callable[[list[str]], dict[str, float]],
    distance: Callable[[list[str]], float],
    report: Callable[[str], None],
) -> Found:
    """Return the largest set of layers that was found within the budget.

    Args:
        layers: Candidates, in the order of the graph.
        before: Scores of the model as it is, 0..1.
        budget: What each score may lose.
        score: Scores of the model with these layers in INT8.
        distance: Change of the outputs with these layers in INT8.
        report: Told a line at a time.

    Raises:
        OneFormerError: Even the gentlest group costs more.
    """
    scores = score(list(layers))
    report(f"all {len(layers)} layers in INT8: {_described(before, scores)}")
    if within(before, scores, budget):
        return Found(list(layers), scores, 1)
    groups = grouped(layers)
    progress = Progress("sensitivity", "groups")
    distances = {}
    for done, (name, members) in enumerate(groups.items(), 1):
        distances[name] = distance(members)
        progress(done, len(groups))
    order = sorted(groups, key=lambda name: distances[name])
    position = {name: place for place, name in enumerate(layers)}
    evaluations, good, bad, best = 1, 0, len(order), None
    while bad - good > 1:
        middle = (good + bad) // 2
        chosen = sorted((name for group in order[:middle] for name in groups[group]), key=position.__getitem__)
        scores = score(chosen)
        evaluations += 1
        report(f"{middle} of {len(order)} groups in INT8: {_described(before, scores)}")
        if within(before, scores, budget):
            good, best = middle, Found(chosen, scores, evaluations, distances)
        else:
            bad = middle
    if best is None:
        raise OneFormerError(
            f"quantize.max_metric_drop: no layers stay within {budget:g}; the gentlest group, {order[0]}, costs "
            f"{_described(before, scores)}; raise it, or calibrate with more images"
        )
    return Found(best.layers, best.scores, evaluations, distances)


def within(before: Mapping[str, float], after: Mapping[str, float], budget: float) -> bool:
    """Tell whether no score lost more than the budget."""
    return all(before[name] - after[name] <= budget for name in before)


def grouped(layers: Sequence[str]) -> dict[str, list[str]]:
    """Return layers in groups: by the first parts of their paths, or neighbours together where names are no paths."""
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
