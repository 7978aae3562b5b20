"""Annotation readers, augmentations, targets and metrics for OneFormer, without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneformer_data.datasets import DataSet
    from oneformer_data.evaluation.loop import Evaluation, evaluate_parts
    from oneformer_data.evaluation.saved_predictions import score_instance, score_panoptic, score_semantic
    from oneformer_data.formats.layers import stacked as stack_masks
    from oneformer_data.formats.rle import draw as draw_mask
    from oneformer_data.opening.format import FileFormat, Format
    from oneformer_data.opening.loading import open_split, read_labels
    from oneformer_data.opening.sources import Source
    from oneformer_data.sample import Sample, SegmentInfo
    from oneformer_data.training.pipeline import Example, TrainingPipeline
    from oneformer_data.training.pipeline import from_spec as training_pipeline
    from oneformer_data.training.targets import Targets, targets
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
    "draw_mask": "formats.rle:draw",
    "evaluate_parts": "evaluation.loop",
    "open_split": "opening.loading",
    "read_labels": "opening.loading",
    "score_instance": "evaluation.saved_predictions",
    "score_panoptic": "evaluation.saved_predictions",
    "score_semantic": "evaluation.saved_predictions",
    "stack_masks": "formats.layers:stacked",
    "targets": "training.targets",
    "tokenize": "training.tokenizer",
    "training_pipeline": "training.pipeline:from_spec",
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
    "draw_mask",
    "evaluate_parts",
    "open_split",
    "read_labels",
    "score_instance",
    "score_panoptic",
    "score_semantic",
    "stack_masks",
    "targets",
    "tokenize",
    "training_pipeline",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f"{__name__}.{home}"), attribute or name)
