"""A whole OneFormer as an engine: exported, and built by TensorRT-RTX, which needs no GPU to build."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

from acts.row import Case
from acts.settings import save_model

from oneformer_deploy.engines.engine_file import EngineFile, read_engine_file
from oneformer_deploy.runtimes import gpu_memory

BUILDER = "gen_trt_engine.tensorrt"
FORMATS = {
    "fp32": (f"{BUILDER}.data_type=fp32",),
    "fp16": (f"{BUILDER}.data_type=fp16",),
    "open batch": (f"{BUILDER}.data_type=fp16", f"{BUILDER}.opt_batch_size=2", f"{BUILDER}.max_batch_size=4"),
}


def exported(folder: Path, num_classes: int, *words: str) -> Path:
    """Export the network of some settings, its weights random and its batch open."""
    labels = [{"id": index + 1, "name": f"class {index}", "isthing": index % 2} for index in range(num_classes)]
    (folder / "label_map.json").write_text(json.dumps(labels))
    model, graph = folder / "model.pth", folder / "model.onnx"
    settings = (
        *words,
        f"results_dir={folder}",
        f"dataset.label_map={folder}/label_map.json",
        f"model.sem_seg_head.num_classes={num_classes}",
    )
    save_model(settings, model, seed=0)
    Case((*settings, f"export.checkpoint={model}", f"export.onnx_file={graph}"), folder).start("export")
    return graph


def built(graph: Path, folder: Path, *words: str) -> EngineFile:
    """Build an engine as on a host without a GPU, and read it back."""
    with patch.object(gpu_memory, "count_gpus", lambda: 0):
        Case((f"gen_trt_engine.onnx_file={graph}", f"results_dir={folder}", *words), folder).start("gen_trt_engine")
    return read_engine_file(folder / "gen_trt_engine" / "model.engine")
