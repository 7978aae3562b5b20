"""Calibration images, from which quantization measures each layer's range of values; prepared as for inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.tensor_names import INPUTS
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import find_images, read_image
from oneformer_spec.segmentation.frame import plan, prepare
from oneformer_spec.segmentation.manifest import Manifest

if TYPE_CHECKING:
    import onnx

Feed = dict[str, NDArray[np.float32]]
"""The inputs of one forward pass: images (B, 3, H, W) and task tokens (B, L), by the names the graph gives them."""


@dataclass(frozen=True)
class Calibration:
    """The images of a folder and how they become a graph's inputs; no image is read before `feeds` is called."""

    paths: tuple[Path, ...]
    manifest: Manifest
    names: tuple[str, str]
    batch_size: int

    def feeds(self) -> list[Feed]:
        """Return batches of images that share a padded size; the tasks alternate from image to image."""
        rows = list(self.manifest.task_tokens.values())
        groups: dict[tuple[int, ...], list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = {}
        for index, path in enumerate(self.paths):
            image = _prepared(path, self.manifest)
            tokens = np.asarray(rows[index % len(rows)], dtype=np.float32)
            groups.setdefault(image.shape, []).append((image, tokens))
        return [
            self._feed(group[start : start + self.batch_size])
            for group in groups.values()
            for start in range(0, len(group), self.batch_size)
        ]

    def _feed(self, rows: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Feed:
        full = [*rows, *[rows[-1]] * (self.batch_size - len(rows))]  # an incomplete batch repeats its last row
        return {name: np.stack(values) for name, values in zip(self.names, zip(*full, strict=True), strict=True)}


def open_calibration(
    folder: str, manifest: Manifest, inputs: Sequence[onnx.ValueInfoProto], *, batch_size: int
) -> Calibration:
    """List the calibration images for an ONNX file.

    Args:
        folder: `dataset.quant_calibration_dataset.images_dir`; searched recursively.
        manifest: The manifest of the ONNX file, which describes how images become inputs.
        inputs: The inputs of the graph; if its batch size is fixed, `batch_size` is ignored.
        batch_size: Images per forward pass.

    Raises:
        DataError: The folder does not exist or contains no images.
    """
    paths = find_images(folder)
    if not paths:
        raise DataError(f"{folder}: contains no images")
    image, tokens = (next(value for value in inputs if value.name in INPUTS[role]) for role in ("image", "task_tokens"))
    fixed = image.type.tensor_type.shape.dim[0].dim_value
    return Calibration(tuple(paths), graph_manifest(manifest, inputs), (image.name, tokens.name), fixed or batch_size)


def graph_manifest(manifest: Manifest, inputs: Sequence[onnx.ValueInfoProto]) -> Manifest:
    """Return the manifest with the fixed input size of its graph, or None for a graph with open sizes."""
    image = next(value for value in inputs if value.name in INPUTS["image"])
    _, _, height, width = (axis.dim_value for axis in image.type.tensor_type.shape.dim)
    return replace(manifest, fixed_size=(height, width) if height and width else None)


def _prepared(path: Path, manifest: Manifest) -> NDArray[np.float32]:
    pixels = read_image(path)
    size = pixels.shape[0], pixels.shape[1]
    frame = plan(size, manifest.size, divisibility=manifest.divisibility, fixed=manifest.fixed_size)
    return prepare(pixels, frame, mean=manifest.mean, std=manifest.std)
