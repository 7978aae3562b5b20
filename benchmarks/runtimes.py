"""One checkpoint with every runtime: scores, speed, size of the file, memory.

    python benchmarks/runtimes.py -e spec.yaml --checkpoint results/train/oneformer_model_latest.pth

The checkpoint is exported with open sizes; each runtime then scores the data of the spec in a process of its own, which
imports what that runtime needs and nothing else. All fp32 runtimes must score what torch does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from timing import CLOCKS, resident

from oneformer_data.evaluate import predictor, split_name
from oneformer_data.evaluation import evaluate_parts
from oneformer_data.loading import open_parts
from oneformer_spec.load import load_spec
from oneformer_spec.model_file import input_rule, open_model
from oneformer_spec.tasks import TASKS, Task

RUNTIMES = {
    "torch": ("pth", "torch", "fp32"),
    "torch bf16": ("pth", "torch", "bf16"),
    "onnxruntime": ("onnx", "onnxruntime", "fp32"),
    "openvino": ("onnx", "openvino", "fp32"),
    "openvino bf16": ("onnx", "openvino", "bf16"),
}
"""What is measured: the model file, the runtime, and its precision."""
TOLERANCE = 1e-3


def how(runtime: str, precision: str, threads: int) -> list[str]:
    """Return the settings of a side."""
    return [f"inference.runtime={runtime}", f"inference.precision={precision}", f"inference.num_threads={threads}"]


def score(arguments: argparse.Namespace, file: Path, runtime: str, precision: str) -> dict[str, float]:
    """Score a model file with a runtime: metrics, images per second, and the memory that the process took."""
    spec = load_spec(
        arguments.experiment_spec, [*arguments.overrides, *how(runtime, precision, arguments.threads)]
    ).spec
    segmenter = open_model(str(file), spec, spec.inference)
    predict = predictor(segmenter, input_rule(segmenter, spec, spec.inference))
    spent, images = 0.0, 0

    def timed(pictures: list[NDArray[np.uint8]], task: Task) -> object:
        nonlocal spent, images
        start = CLOCKS[arguments.clock]()
        found = predict(pictures, task)
        spent, images = spent + CLOCKS[arguments.clock]() - start, images + len(pictures)
        return found

    parts = open_parts(spec.dataset, split_name(spec.dataset), segmenter.manifest.labels)
    metrics = evaluate_parts(parts, timed, TASKS, segmenter.manifest.labels)
    return {
        "PQ": metrics["PQ"]["all"]["pq"],
        "AP": metrics["AP"]["AP"],
        "mIoU": metrics["mIoU"],
        "images/s": images / spent,
        "file MB": file.stat().st_size / 1e6,
        "peak MB": resident(),
    }


def print_runtimes(arguments: argparse.Namespace) -> bool:
    """Print a table of all runtimes; returns whether every fp32 runtime scores what torch does."""
    from oneformer_model.export import run as export  # torch stays out of the processes that are measured

    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "model.onnx"
        words = [*arguments.overrides, f"results_dir={name}", f"export.checkpoint={arguments.checkpoint}"]
        words += [f"export.onnx_file={model}", "export.dynamic_size=true"]
        export(load_spec(arguments.experiment_spec, words).spec)
        paths = {"pth": arguments.checkpoint, "onnx": model}
        rows = {}
        for side, (file, _, _) in RUNTIMES.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--file", str(paths[file])]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows[side] = json.loads(output.splitlines()[-1])
    print("".join(["runtime".ljust(16), *(f"{name:>10}" for name in rows["torch"])]))
    for side, row in rows.items():
        print(side.ljust(16) + "".join(f"{value:10.4f}" if value < 10 else f"{value:10.1f}" for value in row.values()))
    exact = [side for side, (_, _, precision) in RUNTIMES.items() if precision == "fp32"]
    worst = max(abs(rows[side][name] - rows["torch"][name]) for side in exact for name in ("PQ", "AP", "mIoU"))
    print(f"largest difference of an fp32 runtime from torch: {worst:.1e}, allowed {TOLERANCE:.0e}")
    return worst <= TOLERANCE


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("-e", "--experiment_spec", type=Path, action="append", default=[])
    result.add_argument("--checkpoint", type=Path, required=True)
    result.add_argument("--threads", type=int, default=os.cpu_count())
    result.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for busy machines")
    result.add_argument("--side", choices=RUNTIMES, help=argparse.SUPPRESS)
    result.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    result.add_argument("overrides", metavar="KEY=VALUE", nargs="*", default=[])
    return result


def main() -> int:
    """Print the table, or measure one side."""
    arguments = parser().parse_args()
    if arguments.side:
        print(json.dumps(score(arguments, arguments.file, *RUNTIMES[arguments.side][1:])))
        return 0
    return 0 if print_runtimes(arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
