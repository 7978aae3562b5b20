"""Identify the inputs and outputs of a model graph and check that the graph fits its manifest; used by all runtimes."""

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
"""Sizes of a tensor's axes: an int for a fixed axis, anything else for an open one."""


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a model graph."""

    names: Mapping[str, str]
    """The graph's name for each role: image, task_tokens, class_logits, mask_logits."""
    batch: int | None
    """The only batch size that the graph accepts; None: any."""
    size: Size | None
    """The only image size (height, width) that the graph accepts; None: any."""

    def segmenter(self, run: Run, manifest: Manifest) -> Segmenter:
        """Return a segmenter for the graph; its fixed sizes override those in the manifest."""
        return Segmenter(run, replace(manifest, fixed_size=self.size), fixed_batch=self.batch)


def read_interface(
    path: Path, inputs: Mapping[str, Axes], outputs: Mapping[str, Axes], manifest: Manifest
) -> Interface:
    """Identify a graph's inputs and outputs by their names.

    Raises:
        CheckpointError: An input or output is missing, or a fixed axis contradicts the manifest.
    """
    names = _names(path, inputs, INPUTS) | _names(path, outputs, OUTPUTS)
    axes = {role: {**inputs, **outputs}[name] for role, name in names.items()}
    _check(path, axes, manifest)
    batch, _, height, width = (edge if isinstance(edge, int) else None for edge in axes["image"])
    return Interface(names, batch, (height, width) if height and width else None)


def _names(path: Path, present: Mapping[str, Axes], roles: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the graph's name for each role; raise CheckpointError if one is missing."""
    matches = {role: next((name for name in names if name in present), None) for role, names in roles.items()}
    missing = [role for role, name in matches.items() if name is None]
    if missing:
        raise CheckpointError(f"{path}: the graph has no {' or '.join(missing)}; it has {', '.join(sorted(present))}")
    return {role: name for role, name in matches.items() if name is not None}


def _check(path: Path, axes: Mapping[str, Axes], manifest: Manifest) -> None:
    """Raise CheckpointError if a fixed axis of the graph contradicts the manifest."""
    if len(axes["image"]) != 4:
        raise CheckpointError(
            f"{path}: image has {len(axes['image'])} axes, expected 4 (batch, channel, height, width)"
        )
    expected = {
        ("image", 1): (3, "colour channels"),
        ("task_tokens", 1): (len(next(iter(manifest.task_tokens.values()))), "task tokens"),
        ("class_logits", 2): (len(manifest.labels) + 1, "classes, including one for no object"),
    }
    for (role, axis), (size, what) in expected.items():
        actual = axes[role][axis] if axis < len(axes[role]) else None  # the number of axes may be unknown
        if isinstance(actual, int) and actual != size:
            raise CheckpointError(
                f"{path}: {role} has {actual} entries on axis {axis}, but the manifest has {size} {what}"
            )


def one_line(error: BaseException) -> str:
    r"""Return an exception's message on one line, or its type if it has no message.

    >>> one_line(ValueError("a message\n  of two lines"))
    'a message of two lines'
    """
    return " ".join(str(error).split()) or type(error).__name__
