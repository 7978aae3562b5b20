"""Sections `evaluate`, `inference` and `export`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneformer_spec.plugins.option import open_section, option
from oneformer_spec.plugins.task_declarations import ALL

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class EvaluateSection:
    """Scores on a data set."""

    num_gpus: int = option(
        1,
        minimum=1,
        maximum=1024,
        help="Devices per node, or CPU processes where there is no GPU; gpu_ids may imply more.",
    )
    gpu_ids: tuple[int, ...] = option((0,), minimum=0, distinct=True, min_length=1, help="Devices to use on each node.")
    num_nodes: int = option(1, minimum=1, help="Machines that evaluate together.")
    checkpoint: str = option("", help="Model file to evaluate: .pth or .onnx.", common=True)
    trt_engine: str = option("", help="TensorRT engine to evaluate, in place of checkpoint.")
    runtime: str | None = option(
        None, help="Runtime: torch, onnxruntime, openvino or a plugin's; null goes by the model file's suffix."
    )
    precision: str = option("fp32", choices=PRECISIONS, help="Number format that the runtime computes in.")
    results_dir: str = option("", help="Folder of the results; empty is <results_dir>/evaluate.")
    batch_size: int = option(-1, minimum=1, also=(-1,), help="Images per step; -1 is batch_size of the split.")
    task: str = option(
        "all", names="task", choices=(ALL,), help="Task to score; all gives mIoU, AP and PQ in one run.", common=True
    )
    iou_per_class: bool = option(True, help="Report every class beside the means.")
    num_threads: int | None = option(None, minimum=1, help="CPU threads of the runtime; null takes all cores.")
    evaluators: Mapping[str, Any] = open_section("evaluator", help="Options of scores that plugins bring.")


@dataclass(frozen=True)
class InferenceSection:
    """Segments of new images."""

    num_gpus: int = option(
        1,
        minimum=1,
        maximum=1024,
        help="Devices per node, or CPU processes where there is no GPU; gpu_ids may imply more.",
    )
    gpu_ids: tuple[int, ...] = option((0,), minimum=0, distinct=True, min_length=1, help="Devices to use on each node.")
    num_nodes: int = option(1, minimum=1, help="Machines that share the images; the command is started once on each.")
    checkpoint: str = option("", help="Model file to run: .pth or .onnx.", common=True)
    trt_engine: str = option("", help="TensorRT engine to run, in place of checkpoint.")
    runtime: str | None = option(
        None, help="Runtime: torch, onnxruntime, openvino or a plugin's; null goes by the model file's suffix."
    )
    precision: str = option("fp32", choices=PRECISIONS, help="Number format that the runtime computes in.")
    images_dir: str = option("", help="Folder with images; folders inside are read too.", common=True)
    results_dir: str = option("", help="Folder of the results; empty is <results_dir>/inference.")
    batch_size: int = option(-1, minimum=1, also=(-1,), help="Images per step; -1 is dataset.test.batch_size.")
    mode: str = option("semantic", names="task", choices=(ALL,), help="Task to run.", common=True)
    image_size: int | tuple[int, int] | None = option(
        None,
        minimum=32,
        length=2,
        help="Size in pixels, [width, height] or one for both; null takes test_min_size and test_max_size.",
    )
    num_threads: int | None = option(None, minimum=1, help="CPU threads of the runtime; null takes all cores.")


@dataclass(frozen=True)
class ExportSection:
    """From a checkpoint to ONNX."""

    results_dir: str | None = option(None, help="Folder of the results; null is <results_dir>/export.")
    gpu_id: int = option(0, minimum=0, help="Device to export on when on_cpu is false.")
    checkpoint: str = option("", help="Checkpoint to export.", common=True)
    task: str = option(
        "semantic",
        choices=("semantic", "instance", "panoptic"),
        help="Accepted for compatibility, no effect: one file serves every task.",
        no_effect="the exported file serves every task; inference.mode chooses",
    )
    onnx_file: str = option("", help="File to write: .onnx, or .etlt for encrypted ONNX.", common=True)
    on_cpu: bool = option(True, help="Export on the CPU.")
    input_channel: int = option(3, minimum=3, maximum=3, help="Channels of the input.")
    input_width: int = option(960, minimum=32, multiple_of=32, help="Width in pixels of the input.", common=True)
    input_height: int = option(544, minimum=32, multiple_of=32, help="Height in pixels of the input.", common=True)
    opset_version: int = option(18, minimum=12, help="ONNX operator set.", common=True)
    batch_size: int = option(-1, minimum=1, also=(-1,), help="Images per batch; -1 leaves it open.", common=True)
    dynamic_size: bool = option(
        False, help="Leave height and width open; input_height and input_width are then an example."
    )
    verbose: bool = option(False, help="Log more.")
