"""Sample predictions: a few validation pictures, the truth on the left and what the network finds on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oneformer_data.datasets import allowed_tasks
from oneformer_data.sample import Sample
from oneformer_data.training.targets import targets
from oneformer_spec.labels import Labels
from oneformer_spec.pictures.overlay import overlay
from oneformer_spec.plugins.task_declarations import declared_task
from oneformer_spec.results import Segment, Segmentation, bounding_box
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.segmenter import Run, Segmenter
from oneformer_spec.tasks import Task

COUNT = 4
LONGEST_EDGE = 800  # pixels of either half
PREFERENCE = (Task.PANOPTIC, Task.SEMANTIC, Task.INSTANCE)


class SamplePictures:
    """The same few pictures after every validation, spread over the data set."""

    def __init__(self, samples: Sequence[Sample], manifest: Manifest, count: int = COUNT) -> None:
        """Choose `count` pictures, and of the tasks that the data allows the one that shows most."""
        self.samples, self.manifest = samples, manifest
        self.indices = sorted({int(index) for index in np.linspace(0, len(samples) - 1, min(count, len(samples)))})
        allowed = [task for task in allowed_tasks(samples) if task in manifest.task_tokens]
        self.task = next((task for task in PREFERENCE if task in allowed), allowed[0])

    def draw(self, run: Run) -> dict[str, NDArray[np.uint8]]:
        """Return the pictures, RGB (H, W, 3), by the names of the samples."""
        segmenter, labels = Segmenter(run, self.manifest), self.manifest.labels
        drawn = {}
        for index in self.indices:
            sample = self.samples[index]
            (found,) = segmenter.predict([sample.image], self.task)
            halves = [half(sample.image, result, labels) for result in (truth(sample, self.task, labels), found)]
            drawn[sample.name] = np.concatenate(halves, axis=1)
        return drawn


def truth(sample: Sample, task: str, labels: Labels) -> Segmentation:
    """Return a sample's annotations as a result of a task."""
    wanted, holds_classes = targets(sample, task), declared_task(task).decode == Task.SEMANTIC
    ids, segments = np.zeros(sample.size, dtype=np.int32), []
    for number, (index, mask) in enumerate(zip(wanted.labels.tolist(), wanted.masks, strict=True), start=1):
        label = labels[index]
        identity = label.id if holds_classes else number
        ids[mask] = identity
        area, box = int(mask.sum()), bounding_box(mask)
        segments.append(Segment(identity, label.id, label.name, label.isthing, None, area, box, mask))
    return Segmentation(task, ids, tuple(segments), holds_classes)


def half(image: NDArray[np.uint8], result: Segmentation, labels: Labels) -> NDArray[np.uint8]:
    """Return the overlay of a result, shrunk first and drawn then, so that lines and letters keep their size."""
    factor = LONGEST_EDGE / max(image.shape)
    if factor >= 1:
        return overlay(image, result, labels)
    height, width = (max(1, round(edge * factor)) for edge in image.shape[:2])
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
    ids = np.asarray(Image.fromarray(result.map).resize((width, height), Image.Resampling.NEAREST))
    segments = (replace(segment, mask=None, bbox=bounding_box(ids == segment.id)) for segment in result.segments)
    return overlay(small, replace(result, map=ids, segments=tuple(segments)), labels)
