"""The contract of a runtime as a check for the tests of packages that bring one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from oneformer_spec import hooks
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.tasks import TASKS

SIZES = ((40, 56), (64, 48))


def check_runtime(declaration: hooks.Runtime, path: str | Path, **options: Any) -> None:
    """Check a declared runtime with a model file: pictures of several sizes, alone and together, in every task.

    Raises:
        AssertionError: The runtime breaks the contract; the message says where.
    """
    name, suffix = declaration.name, Path(path).suffix.lower()
    reads = (*declaration.suffixes, *declaration.also)
    _require(suffix in reads, f"{name}: declares {', '.join(reads)}, and is checked with {path}")
    segmenter = resolve(declaration.target)(str(path), "auto", num_threads=1, key=None, **options)
    _require(isinstance(segmenter, Segmenter), f"{name}: opens {type(segmenter).__name__}, expected a Segmenter")
    _require(isinstance(segmenter.manifest, Manifest), f"{name}: has no manifest")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in SIZES]
    for task in TASKS:
        together = segmenter.predict(images, task)
        for image, found in zip(images, together, strict=True):
            where = f"{name}: {task} of a picture of {image.shape[:2]}"
            _require(found.map.shape == image.shape[:2], f"{where}: the map is {found.map.shape}")
            (alone,) = segmenter.predict([image], task)
            agreement = float(np.mean(found.map == alone.map))
            _require(agreement > 0.99, f"{where}: another picture changes {1 - agreement:.1%} of its pixels")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
