"""A model of any runtime behind one face: pictures and a task in, segmentations out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.processes.threads import one_blas_thread
from oneformer_spec.results import Segmentation
from oneformer_spec.segmentation.decode import decode
from oneformer_spec.segmentation.frame import Frame, SizeRule, plan, prepare
from oneformer_spec.segmentation.manifest import Manifest

Run = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[Any, Any]]
"""(image (B, 3, H, W), task_tokens (B, L)) -> (class_logits (B, Q, C + 1), mask_logits (B, Q, h, w))."""


class Segmenter:
    """Frame, run, decode. Pictures of one padded size share a forward pass; the others never change each other."""

    def __init__(self, run: Run, manifest: Manifest, *, fixed_batch: int | None = None) -> None:
        """Wrap a runtime's `run`; `fixed_batch` is the only batch size it takes, None for any."""
        self.run = run
        self.manifest = manifest
        self.fixed_batch = fixed_batch

    def predict(
        self,
        images: Sequence[NDArray[np.uint8]],
        task: str,
        *,
        rule: SizeRule | None = None,
        min_score: float | None = None,
    ) -> list[Segmentation]:
        """Segment RGB pictures, uint8 (H, W, 3) each, of any sizes.

        Args:
            images: The pictures; they are run together where their padded sizes agree.
            task: Name of the task whose tokens condition the queries.
            rule: Input size; None means the manifest's. A model exported at a fixed size ignores it.
            min_score: See `decode`.

        Raises:
            UsageError: The model was not trained for the task, or the task is not installed here.
        """
        manifest = self.manifest
        frames = [
            plan(
                (image.shape[0], image.shape[1]),
                rule or manifest.size,
                divisibility=manifest.divisibility,
                fixed=manifest.fixed_size,
            )
            for image in images
        ]
        results: dict[int, Segmentation] = {}
        for batch in self._batches(frames):
            class_logits, mask_logits = self.logits([images[i] for i in batch], [frames[i] for i in batch], task)
            with one_blas_thread:
                for row, i in enumerate(batch):
                    results[i] = decode(
                        class_logits[row],
                        mask_logits[row],
                        task=task,
                        frame=frames[i],
                        labels=manifest.labels,
                        thresholds=manifest.thresholds,
                        min_score=min_score,
                    )
        return [results[i] for i in range(len(images))]

    def logits(self, images: Sequence[NDArray[np.uint8]], frames: Sequence[Frame], task: str) -> tuple[Any, Any]:
        """Run pictures whose frames share one padded size; returns class logits and mask logits, batch first."""
        manifest = self.manifest
        with one_blas_thread:
            inputs = np.stack(
                [
                    prepare(image, frame, mean=manifest.mean, std=manifest.std)
                    for image, frame in zip(images, frames, strict=True)
                ]
            )
        missing = (self.fixed_batch or len(inputs)) - len(inputs)
        if missing:
            inputs = np.concatenate([inputs, np.zeros((missing, *inputs.shape[1:]), dtype=np.float32)])
        tokens = np.tile(np.asarray(manifest.tokens(task), dtype=np.float32), (len(inputs), 1))
        return self.run(inputs, tokens)

    def _batches(self, frames: Sequence[Frame]) -> list[list[int]]:
        """Group indices by padded size; a model with a fixed batch gets groups of at most that many."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, frame in enumerate(frames):
            groups.setdefault(frame.padded, []).append(index)
        step = self.fixed_batch or max(1, len(frames))
        return [group[i : i + step] for group in groups.values() for i in range(0, len(group), step)]
