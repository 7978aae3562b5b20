"""The common interface of models in any runtime: images and a task in, segmentations out."""

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
    """Segments images with a model. Images with equal padded sizes share a forward pass; others do not affect it."""

    def __init__(self, run: Run, manifest: Manifest, *, fixed_batch: int | None = None) -> None:
        """Wrap a runtime's `run`; `fixed_batch` is the only batch size that it accepts (None: any)."""
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
        """Segment RGB images of any sizes and return one result per image.

        Args:
            images: Images, uint8 (H, W, 3) each; those with equal padded sizes are run as one batch.
            task: Name of the task whose tokens condition the queries.
            rule: Input size; None: the one in the manifest. Ignored by a model that was exported at a fixed size.
            min_score: See `decode`.

        Raises:
            UsageError: The model was not trained for the task, or the task's plugin is not installed.
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
        """Run images with equal padded sizes; return class logits (B, Q, C + 1) and mask logits (B, Q, h, w)."""
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
        """Group image indices by padded size, in groups of at most `fixed_batch` if it is set."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, frame in enumerate(frames):
            groups.setdefault(frame.padded, []).append(index)
        step = self.fixed_batch or max(1, len(frames))
        return [group[i : i + step] for group in groups.values() for i in range(0, len(group), step)]
