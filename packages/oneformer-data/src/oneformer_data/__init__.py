"""Annotation readers, augmentations, targets and metrics for OneFormer, without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneformer_data.datasets import DataSet
    from oneformer_data.evaluation.loop import Evaluation, evaluate_parts
    from oneformer_data.opening.format import FileFormat, Format
    from oneformer_data.opening.loading import open_split, read_labels
    from oneformer_data.opening.sources import Source
    from oneformer_data.sample import Sample, SegmentInfo
    from oneformer_data.training.pipeline import Example, TrainingPipeline
    from oneformer_data.training.targets import Targets
    from oneformer_data.training.tokenizer import tokenize

_HOMES = {
    "DataSet": "datasets",
    "Evaluation": "evaluation.loop",
    "Example": "training.pipeline",
    "FileFormat": "opening.format",
    "Format": "opening.format",
    "Sample": "sample",
    "SegmentInfo": "sample",
    "Source": "opening.sources",
    "Targets": "training.targets",
    "TrainingPipeline": "training.pipeline",
    "evaluate_parts": "evaluation.loop",
    "open_split": "opening.loading",
    "read_labels": "opening.loading",
    "tokenize": "training.tokenizer",
}

__all__ = [
    "DataSet",
    "Evaluation",
    "Example",
    "FileFormat",
    "Format",
    "Sample",
    "SegmentInfo",
    "Source",
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
