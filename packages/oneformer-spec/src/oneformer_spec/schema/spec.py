"""The whole spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oneformer_spec.plugins.option import NOT_AN_OPTION, open_section, option, section
from oneformer_spec.schema.dataset import DatasetSection
from oneformer_spec.schema.deploy import GenTrtEngineSection, QuantizeSection
from oneformer_spec.schema.model import ModelSection
from oneformer_spec.schema.task_sections import EvaluateSection, ExportSection, InferenceSection
from oneformer_spec.schema.train import TrainSection, Wandb


@dataclass(frozen=True)
class Spec:
    """One spec drives every task.

    `commands` holds the options of plugins' commands, which a file writes as top-level sections of their names.

    Two fields are no part of it: `notes` say what was read otherwise than written; `written` are the canonical paths
    that the user set, so that a model file's own value can stand where the user said nothing.
    """

    model_name: str | None = option(None, help="Free text that the manifest records.", common=True)
    encryption_key: str | None = option(
        None,
        secret=True,
        help="Key that encrypts every checkpoint and exported file; ONEFORMER_ENCRYPTION_KEY is the safer place.",
    )
    results_dir: str | None = option(
        "/results", help="Root of all outputs; a task writes to <results_dir>/<task>.", common=True
    )
    wandb: Wandb = section(Wandb, help="Reporting to Weights & Biases.")
    model: ModelSection = section(ModelSection, help="The network.")
    dataset: DatasetSection = section(DatasetSection, help="The data.")
    train: TrainSection = section(TrainSection, help="Training.")
    evaluate: EvaluateSection = section(EvaluateSection, help="Scores on a data set.")
    inference: InferenceSection = section(InferenceSection, help="Segments of new images.")
    export: ExportSection = section(ExportSection, help="Export to ONNX.")
    gen_trt_engine: GenTrtEngineSection = section(GenTrtEngineSection, help="TensorRT engines.")
    quantize: QuantizeSection = section(QuantizeSection, help="Quantization.")
    runtimes: Mapping[str, Any] = open_section("runtime", help="Options of runtimes that plugins bring.")
    commands: Mapping[str, Any] = open_section("command")
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False, metadata=NOT_AN_OPTION)
    written: frozenset[str] = field(default=frozenset(), compare=False, repr=False, metadata=NOT_AN_OPTION)
