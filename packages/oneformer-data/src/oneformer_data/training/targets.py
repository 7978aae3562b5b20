"""From a sample and a task to what the network must find: a class and a mask per target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.segmentation.frame import Size
from oneformer_spec.tasks import Task


@dataclass(frozen=True)
class Rule:
    """How a task sees segments: which kinds share one mask per class, and which segments it leaves out."""

    merge_things: bool
    merge_stuff: bool
    things_only: bool
    crowds: bool

    def takes(self, segment: SegmentInfo) -> bool:
        """Return whether the segment is part of a target; the pixels of others are void."""
        return (segment.isthing or not self.things_only) and (self.crowds or not segment.is_crowd)

    def merges(self, segment: SegmentInfo) -> bool:
        """Return whether the segment shares a mask with the others of its class."""
        return self.merge_things if segment.isthing else self.merge_stuff


RULES = {
    Task.SEMANTIC: Rule(merge_things=True, merge_stuff=True, things_only=False, crowds=True),
    Task.INSTANCE: Rule(merge_things=False, merge_stuff=False, things_only=True, crowds=False),
    Task.PANOPTIC: Rule(merge_things=False, merge_stuff=True, things_only=False, crowds=False),
}


@dataclass(frozen=True)
class Targets:
    """N targets: class indices (N,) and masks (N, H, W), each with at least one pixel."""

    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]


def targets(sample: Sample, task: Task, padded: Size | None = None) -> Targets:
    """Return the targets of a task; segments without a pixel left are dropped, void pixels belong to no mask.

    Masks are padded right and bottom to a size that is given.
    """
    rule = RULES[task]
    layers = {number: layer for layer, ids in enumerate(sample.id_maps) for number in value_counts(ids)}
    members: dict[tuple[int, int], list[SegmentInfo]] = {}
    for segment in sample.segments:
        if segment.id in layers and rule.takes(segment):
            key = (segment.class_index, 0 if rule.merges(segment) else segment.id)
            members.setdefault(key, []).append(segment)
    masks = np.zeros((len(members), *(padded or sample.size)), dtype=np.bool_)
    height, width = sample.size
    for mask, (first, *rest) in zip(masks[:, :height, :width], members.values(), strict=True):
        np.equal(sample.id_maps[layers[first.id]], first.id, out=mask)
        for segment in rest:
            mask |= sample.id_maps[layers[segment.id]] == segment.id
    return Targets(np.array([index for index, _ in members], dtype=np.int64), masks)


FILLERS = {
    Task.SEMANTIC: "a semantic photo",
    Task.INSTANCE: "an instance photo",
    Task.PANOPTIC: "a panoptic photo",
}


def texts(task: Task, class_names: Sequence[str], num_texts: int) -> list[str]:
    """Return `num_texts` texts: one per target, then the task's filler; targets beyond the number have none."""
    named = [f"a photo with a {name}" for name in class_names[:num_texts]]
    return [*named, *[FILLERS[task]] * (num_texts - len(named))]
