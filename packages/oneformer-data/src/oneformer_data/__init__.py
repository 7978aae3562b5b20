"""Annotation readers, augmentations, targets and metrics for OneFormer, without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneformer_data.evaluation import Evaluation, evaluate_parts
    from oneformer_data.loading import open_split, read_labels
    from oneformer_data.pipeline import Example, TrainingPipeline
    from oneformer_data.sample import Sample, SegmentInfo
    from oneformer_data.targets import Targets
    from oneformer_data.tokenizer import tokenize

_HOMES = {
    "Evaluation": "evaluation",
    "Example": "pipeline",
    "Sample": "sample",
    "SegmentInfo": "sample",
    "Targets": "targets",
    "TrainingPipeline": "pipeline",
    "evaluate_parts": "evaluation",
    "open_split": "loading",
    "read_labels": "loading",
    "tokenize": "tokenizer",
}

__all__ = [
    "Evaluation",
    "Example",
    "Sample",
    "SegmentInfo",
    "Targets",
    "TrainingPipeline",
    "evaluate_parts",
    "open_split",
    "read_labels",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
