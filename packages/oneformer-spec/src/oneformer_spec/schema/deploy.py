"""Sections `gen_trt_engine` and `quantize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneformer_spec.plugins.option import open_section, option, section

AWQ = ("awq_clip", "awq_lite", "awq_full")
"""Algorithms that a spec written for TAO or an earlier version may name; none is available yet."""


@dataclass(frozen=True)
class TensorRt:
    """Settings of TensorRT's builder."""

    workspace_size: int = option(1024, minimum=1, help="Memory in MiB that the builder may use.")
    min_batch_size: int = option(1, minimum=1, help="Smallest batch that the engine takes.")
    opt_batch_size: int = option(1, minimum=1, help="Batch that the engine is tuned for.")
    max_batch_size: int = option(1, minimum=1, help="Largest batch that the engine takes.")
    layers_precision: tuple[str, ...] | None = option(
        (),
        help="Layers with a number format of their own, layer:format; * and ? fit any name, the last one wins.",
    )
    data_type: str = option(
        "fp16",
        choices=("fp32", "fp16", "bf16", "int8", "fp8"),
        help="Number format of the layers; what 16 bits would harm stays fp32.",
        common=True,
    )


@dataclass(frozen=True)
class GenTrtEngineSection:
    """From ONNX to a TensorRT engine."""

    results_dir: str | None = option(None, help="Folder of the results; null is <results_dir>/gen_trt_engine.")
    gpu_id: int = option(0, minimum=0, help="GPU that the engine is built on, and for.")
    onnx_file: str = option("", help="ONNX file to build from.", common=True)
    trt_engine: str = option(
        "", help="Engine file to write, .engine; empty is model.engine in the folder of the results.", common=True
    )
    timing_cache: str | None = option(
        None, help="File that keeps measured kernel times between builds; read where it is there, written after each."
    )
    batch_size: int = option(
        1, minimum=1, also=(-1,), help="Images per run of calibration for int8 and fp8; -1 is opt_batch_size."
    )
    verbose: bool = option(False, help="Let TensorRT log everything.")
    tensorrt: TensorRt = section(TensorRt, help="Settings of the builder.")


@dataclass(frozen=True)
class QuantizeSection:
    """To a model of smaller numbers."""

    backend: str | None = option(
        "onnxruntime",
        names="quantizer",
        choices=("onnxruntime", "torchao"),
        replaced={"modelopt.onnx": "its equivalent is onnxruntime", "modelopt.pytorch": "its equivalent is torchao"},
        help="Library that quantizes.",
        common=True,
    )
    mode: str | None = option(
        "weight_only_ptq",
        choices=("static_ptq", "weight_only_ptq"),
        help="What becomes small: weights and activations, or weights alone.",
        common=True,
    )
    algorithm: str | None = option(
        "minmax",
        choices=("minmax", "max", "entropy", "rtn_dq"),
        replaced=dict.fromkeys(AWQ, "AWQ is not available yet"),
        help="How the ranges of values are found.",
    )
    layers: tuple[Mapping[str, Any], ...] = option((), help="Settings of single layers, one mapping each.")
    skip_names: tuple[str, ...] | None = option((), help="Layers that stay as they are.")
    model_path: str | None = option("", help="Model file to quantize.", common=True)
    results_dir: str | None = option("", help="Folder of the results; empty is <results_dir>/quantize.")
    backend_kwargs: Mapping[str, Any] | None = option({}, help="Further options of the library.")
    device: str | None = option(
        None,
        pattern=r"(cuda|cpu|trt|cuda:[0-9]+)",
        help="Device to quantize on; null is cuda where there is one, else cpu.",
    )
    max_metric_drop: float = option(0.01, minimum=0, help="Loss of the metric (0..1) that the INT8 search may cost.")
    backends: Mapping[str, Any] = open_section("quantizer", help="Options of backends that plugins bring.")
