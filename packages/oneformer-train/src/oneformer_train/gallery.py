"""Sample predictions: a few validation pictures, the truth on the left and what the network finds on the right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oneformer_data.sample import Sample
from oneformer_data.samples import allowed_tasks
from oneformer_data.targets import targets
from oneformer_spec.draw import overlay
from oneformer_spec.labels import Labels
from oneformer_spec.manifest import Manifest
from oneformer_spec.results import Segment, Segmentation, bounding_box
from oneformer_spec.segmenter import Run, Segmenter
from oneformer_spec.tasks import Task

COUNT = 4
LONGEST_EDGE = 800  # pixels of either half
PREFERENCE = (Task.PANOPTIC, Task.SEMANTIC, Task.INSTANCE)


class Gallery:
    """The same few pictures after every validation, spread over the data set."""

    def __init__(self, samples: Sequence[Sample], manifest: Manifest, count: int = COUNT) -> None:
        """Choose `count` pictures, and of the tasks that the data allows the one that shows most."""
        self.samples, self.manifest = samples, manifest
        self.indices = sorted({int(index) for index in np.linspace(0, len(samples) - 1, min(count, len(samples)))})
        self.task = next(task for task in PREFERENCE if task in allowed_tasks(samples))

    def draw(self, run: Run) -> dict[str, NDArray[np.uint8]]:
        """Return the pictures, RGB (H, W, 3), by the names of the samples."""
        segmenter, labels = Segmenter(run, self.manifest), self.manifest.labels
        drawn = {}
        for index in self.indices:
            sample = self.samples[index]
            (found,) = segmenter.predict([sample.image], self.task)
            halves = [overlay(sample.image, half, labels) for half in (truth(sample, self.task, labels), found)]
            drawn[sample.name] = np.concatenate([_shrunk(half) for half in halves], axis=1)
        return drawn


def truth(sample: Sample, task: Task, labels: Labels) -> Segmentation:
    """Return a sample's annotations as a result of a task."""
    wanted = targets(sample, task)
    ids, segments = np.zeros(sample.size, dtype=np.int32), []
    for number, (index, mask) in enumerate(zip(wanted.labels.tolist(), wanted.masks, strict=True), start=1):
        label = labels[index]
        identity = label.id if task is Task.SEMANTIC else number
        ids[mask] = identity
        area, box = int(mask.sum()), bounding_box(mask)
        segments.append(Segment(identity, label.id, label.name, label.isthing, None, area, box, mask))
    return Segmentation(task, ids, tuple(segments))


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    image.thumbnail((LONGEST_EDGE, LONGEST_EDGE))
    return np.asarray(image)
