"""The spec as frozen, typed dataclasses: the single source of types, defaults, limits and help."""

from oneformer_spec.plugins.option import Option, option
from oneformer_spec.schema.backbones import (
    DinatOptions,
    EfficientVitOptions,
    SwinOptions,
    TimmOptions,
)
from oneformer_spec.schema.dataset import Augmentation, DatasetSection, Split
from oneformer_spec.schema.model import (
    BackboneSection,
    ModelSection,
    OneFormerSection,
    PostProcessing,
    SemSegHead,
    TextEncoder,
)
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.task_sections import EvaluateSection, ExportSection, InferenceSection
from oneformer_spec.schema.train import Checkpointer, Optim, TrainSection

__all__ = [
    "Augmentation",
    "BackboneSection",
    "Checkpointer",
    "DatasetSection",
    "DinatOptions",
    "EfficientVitOptions",
    "EvaluateSection",
    "ExportSection",
    "InferenceSection",
    "ModelSection",
    "OneFormerSection",
    "Optim",
    "Option",
    "PostProcessing",
    "SemSegHead",
    "Spec",
    "Split",
    "SwinOptions",
    "TextEncoder",
    "TimmOptions",
    "TrainSection",
    "option",
]
