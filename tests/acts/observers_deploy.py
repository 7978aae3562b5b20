"""What can be seen of the commands that make engines and 8-bit models."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import onnx

from acts.row import Case, digest
from oneformer_deploy.engines import library
from oneformer_deploy.engines.library import Built, Profile
from oneformer_deploy.quantization import int8_graph, scores
from oneformer_deploy.runtimes import gpu_memory


@dataclass
class AskedLibrary:
    """Keeps what TensorRT is asked for, in its place."""

    verbose: bool = False
    name: str = "tensorrt"
    version: str = "11.0"
    times_kernels: bool = True
    asked: dict[str, Any] = field(default_factory=dict)

    def build(self, graph: bytes, profile: Profile, *, source: Path, **settings: Any) -> Built:
        """Keep everything but the file's name."""
        self.asked = {"graph": digest([graph.hex()]), "profile": profile, "verbose": self.verbose, **settings}
        return Built(b"engine", b"kernels")


def engine(case: Case) -> Mapping[str, object]:
    """Build an engine: what TensorRT is asked for, on which GPU, in how many runs it is calibrated, files."""
    libraries: list[AskedLibrary] = []
    gpus: list[int] = []
    runs: list[list[int]] = []
    quantizer = int8_graph.Quantizer

    def load(verbose: bool) -> AskedLibrary:
        libraries.append(AskedLibrary(verbose))
        return libraries[-1]

    def listen(model: onnx.ModelProto, feeds: Any, target: Any) -> int8_graph.Quantizer:
        runs.append([len(feed["image"]) for feed in feeds])
        return quantizer(model, feeds, target)

    with (
        contextlib.redirect_stdout(io.StringIO()),
        patch.object(library, "load", load),
        patch.object(gpu_memory, "count_gpus", lambda: 8),
        patch.object(gpu_memory, "select_gpu", gpus.append),
        patch.object(gpu_memory, "gpu_name", lambda index: "a GPU"),
        patch.object(int8_graph, "Quantizer", listen),
    ):
        case.start("gen_trt_engine")
    return {"asked": libraries[-1].asked, "gpus": gpus, "runs": runs, "files": case.files()}


def quantized(case: Case) -> Mapping[str, object]:
    """Quantize: operators and weights of the graph, files."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        case.start("quantize")
    graph = onnx.load(case.find("model_int8.onnx")).graph
    return {
        "operators": [node.op_type for node in graph.node],
        "weights": digest([onnx.numpy_helper.to_array(part) for part in graph.initializer]),
        "files": case.files(),
    }


def scored(case: Case) -> int:
    """Quantize where 8 bits cost a score 0.005, and count the layers."""

    class Scores:
        kind = "made up"
        before = True

        def __call__(self, path: Path) -> dict[str, float]:
            value = 0.5 if self.before else 0.495
            self.before = False
            return {"PQ": value}

    with patch.object(scores, "make_scorer", lambda *arguments: Scores()):
        quantized(case)
    return len(json.loads(case.find("quantize.json").read_text())["quantized"])
