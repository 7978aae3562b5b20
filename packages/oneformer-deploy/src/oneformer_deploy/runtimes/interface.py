"""What the runtimes of ONNX files share: which input is which, and whether a graph fits its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oneformer_deploy.tensor_names import INPUTS, OUTPUTS
from oneformer_spec.errors import CheckpointError
from oneformer_spec.segmentation.frame import Size
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.segmenter import Run, Segmenter

Axes = Sequence[Any]
"""Sizes of a tensor's axes: a number, or anything else where an axis is open."""


@dataclass(frozen=True)
class Interface:
    """What a graph calls its inputs and outputs, by role, and the batch and size that it insists on."""

    names: Mapping[str, str]
    batch: int | None
    size: Size | None

    def segmenter(self, run: Run, manifest: Manifest) -> Segmenter:
        """Return the segmenter of a graph: what is fixed in it wins over its manifest."""
        return Segmenter(run, replace(manifest, fixed_size=self.size), fixed_batch=self.batch)


def read_interface(
    path: Path, inputs: Mapping[str, Axes], outputs: Mapping[str, Axes], manifest: Manifest
) -> Interface:
    """Find the roles of a graph's inputs and outputs, given by name.

    Raises:
        CheckpointError: One is missing, or a fixed axis contradicts the manifest.
    """
    names = _names(path, inputs, INPUTS) | _names(path, outputs, OUTPUTS)
    axes = {role: {**inputs, **outputs}[name] for role, name in names.items()}
    _check(path, axes, manifest)
    batch, _, height, width = (edge if isinstance(edge, int) else None for edge in axes["image"])
    return Interface(names, batch, (height, width) if height and width else None)


def _names(path: Path, present: Mapping[str, Axes], roles: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What the graph calls each role. CheckpointError where one is missing."""
    found = {role: next((name for name in names if name in present), None) for role, names in roles.items()}
    missing = [role for role, name in found.items() if name is None]
    if missing:
        raise CheckpointError(f"{path}: the graph has no {' or '.join(missing)}, only {', '.join(sorted(present))}")
    return {role: name for role, name in found.items() if name is not None}


def _check(path: Path, axes: Mapping[str, Axes], manifest: Manifest) -> None:
    """CheckpointError where a fixed axis of the graph contradicts the manifest."""
    if len(axes["image"]) != 4:
        raise CheckpointError(f"{path}: image has {len(axes['image'])} axes, not batch, channel, height, width")
    expected = {
        ("image", 1): (3, "colour channels"),
        ("task_tokens", 1): (len(next(iter(manifest.task_tokens.values()))), "task tokens"),
        ("class_logits", 2): (len(manifest.labels) + 1, "classes and one for no object"),
    }
    for (role, axis), (size, what) in expected.items():
        found = axes[role][axis] if axis < len(axes[role]) else None  # an axis may be unknown
        if isinstance(found, int) and found != size:
            raise CheckpointError(f"{path}: {role} has {found} entries on axis {axis}, the manifest {size} {what}")


def one_line(error: BaseException) -> str:
    """A library's message, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
