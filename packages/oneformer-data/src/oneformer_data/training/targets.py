"""From a sample and a task to what the network must find: a class and a mask per target, and a text for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.errors import PluginError
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.plugins.task_declarations import declared_task
from oneformer_spec.segmentation.frame import Size


@dataclass(frozen=True)
class Targets:
    """N targets: class indices (N,) and masks (N, H, W), each with at least one pixel."""

    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """How a built-in task sees segments: which kinds share one mask per class, and which segments it leaves out."""

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

    def __call__(self, sample: Sample) -> Targets:
        """Return the targets; segments without a pixel left are dropped, void pixels belong to no mask."""
        layers = {number: layer for layer, ids in enumerate(sample.id_maps) for number in value_counts(ids)}
        members: dict[tuple[int, int], list[SegmentInfo]] = {}
        for segment in sample.segments:
            if segment.id in layers and self.takes(segment):
                key = (segment.class_index, 0 if self.merges(segment) else segment.id)
                members.setdefault(key, []).append(segment)
        masks = np.zeros((len(members), *sample.size), dtype=np.bool_)
        for mask, (first, *rest) in zip(masks, members.values(), strict=True):
            np.equal(sample.id_maps[layers[first.id]], first.id, out=mask)
            for segment in rest:
                mask |= sample.id_maps[layers[segment.id]] == segment.id
        return Targets(np.array([index for index, _ in members], dtype=np.int64), masks)


SEMANTIC = Rule(merge_things=True, merge_stuff=True, things_only=False, crowds=True)
INSTANCE = Rule(merge_things=False, merge_stuff=False, things_only=True, crowds=False)
PANOPTIC = Rule(merge_things=False, merge_stuff=True, things_only=False, crowds=False)


def targets(sample: Sample, task: str, padded: Size | None = None) -> Targets:
    """Return the targets of an installed task; masks are padded right and bottom to a size that is given.

    Raises:
        PluginError: The task's own function returns something else than targets of the sample's size.
    """
    declared = declared_task(task)
    found = resolve(declared.targets)(sample)
    if not isinstance(found, Targets) or found.masks.shape != (len(found.labels), *sample.size):
        shape = f" with masks {found.masks.shape}" if isinstance(found, Targets) else ""
        raise PluginError(
            f"the task {declared.name!r}: {declared.targets} must return Targets with masks (N, "
            f"{', '.join(map(str, sample.size))}), found {type(found).__name__}{shape}"
        )
    if padded is None or padded == sample.size:
        return found
    bottom, right = (whole - own for whole, own in zip(padded, sample.size, strict=True))
    return Targets(found.labels, np.pad(found.masks, ((0, 0), (0, bottom), (0, right))))


def texts(task: str, class_names: Sequence[str], num_texts: int) -> list[str]:
    """Return `num_texts` texts: one per target, then the task's filler; targets beyond the number have none."""
    named = [f"a photo with a {name}" for name in class_names[:num_texts]]
    filler = declared_task(task).filler or f"{'an' if task[0] in 'aeiou' else 'a'} {task} photo"
    return [*named, *[filler] * (num_texts - len(named))]
