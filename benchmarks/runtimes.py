"""One checkpoint with every runtime: scores, speed, size of the file, memory.

    python benchmarks/runtimes.py -e spec.yaml --checkpoint results/train/oneformer_model_latest.pth

The checkpoint is exported as the section `export` says (pictures of several sizes need `export.dynamic_size=true`).
Each runtime then scores the data of the spec in a process of its own, which imports what that runtime needs and nothing
else. All fp32 runtimes must score what torch does. Where `dataset.quant_calibration_dataset.images_dir` is set, INT8
files are measured too: one per runtime, with layers that were chosen with it, made as `quantize.*` say. Images per
second are those of prediction, from pixels to segments, and of the network alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from timing import CLOCKS, resident

from oneformer_data.evaluation.evaluate import batch_size, predictor, split_name
from oneformer_data.evaluation.loop import evaluate_parts
from oneformer_data.opening.loading import open_parts
from oneformer_spec.loading.load import load_spec
from oneformer_spec.segmentation.model_file import input_rule, open_model
from oneformer_spec.tasks import TASKS

RUNTIMES = {
    "torch": ("pth", "torch", "fp32"),
    "torch bf16": ("pth", "torch", "bf16"),
    "onnxruntime": ("onnx", "onnxruntime", "fp32"),
    "openvino": ("onnx", "openvino", "fp32"),
    "openvino bf16": ("onnx", "openvino", "bf16"),
    "onnxruntime int8": ("int8", "onnxruntime", "fp32"),
    "openvino int8": ("int8", "openvino", "fp32"),
    "openvino i8 bf16": ("int8", "openvino", "bf16"),
}
"""What is measured: the model file, the runtime, and its precision, in an INT8 file that of the layers left."""
TOLERANCE = 1e-3


def how(runtime: str, precision: str, threads: int, *, section: str = "inference") -> list[str]:
    """Return the settings of a side."""
    return [f"{section}.runtime={runtime}", f"{section}.precision={precision}", f"{section}.num_threads={threads}"]


def quantize(model: Path, folder: Path, experiment_spec: Sequence[Path], overrides: Sequence[str]) -> Path:
    """Return the INT8 file of an exported model, made as the spec says, below `folder`; what is said stays unsaid."""
    from oneformer_deploy.quantization.command import run
    from oneformer_deploy.quantization.static import NAME

    results = folder / "quantize"
    words = [*overrides, f"quantize.results_dir={results}", f"quantize.model_path={model}", "quantize.mode=static_ptq"]
    with contextlib.redirect_stdout(io.StringIO()):
        run(load_spec(experiment_spec, words).spec)
    return results / f"{NAME}.onnx"


class Stopwatch:
    """A function of a batch that tells how long each batch took."""

    def __init__(self, function: Callable[..., Any], clock: Callable[[], float]) -> None:
        self._function, self._clock = function, clock
        self._seconds: list[float] = []  # per image, of each batch

    def __call__(self, batch: Any, *others: Any) -> Any:
        """Call the function."""
        start = self._clock()
        result = self._function(batch, *others)
        self._seconds.append((self._clock() - start) / len(batch))
        return result

    def images_per_second(self) -> float:
        """Return the tasks' mean of the median batch: they take turns. The first batch warms up."""
        tasks = [self._seconds[index :: len(TASKS)] for index in range(len(TASKS))]
        return len(TASKS) / sum(median(batches[1:] or batches) for batches in tasks)


def score(arguments: argparse.Namespace, file: Path, runtime: str, precision: str) -> dict[str, float]:
    """Score a model file with a runtime: metrics, images per second, and the memory that the process took."""
    spec = load_spec(
        arguments.experiment_spec, [*arguments.overrides, *how(runtime, precision, arguments.threads)]
    ).spec
    segmenter = open_model(str(file), spec, spec.inference)
    network = Stopwatch(segmenter.run, CLOCKS[arguments.clock])
    segmenter.run = network
    predict = Stopwatch(predictor(segmenter, input_rule(segmenter, spec, spec.inference)), CLOCKS[arguments.clock])
    split, labels = split_name(spec.dataset), segmenter.manifest.labels
    parts = open_parts(spec.dataset, split, labels)
    metrics = evaluate_parts(parts, predict, TASKS, labels, batch_size=batch_size(spec, split))
    return {
        "PQ": metrics["PQ"]["all"]["pq"],
        "AP": metrics["AP"]["AP"],
        "mIoU": metrics["mIoU"],
        "images/s": predict.images_per_second(),
        "network/s": network.images_per_second(),
        "file MB": file.stat().st_size / 1e6,
        "peak MB": resident(),
    }


def print_runtimes(arguments: argparse.Namespace) -> bool:
    """Print a table of all runtimes; returns whether every fp32 runtime scores what torch does."""
    from oneformer_model.onnx_export.export import run as export  # torch stays out of the processes that are measured

    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "model.onnx"
        words = [*arguments.overrides, f"results_dir={name}", f"export.checkpoint={arguments.checkpoint}"]
        words += [f"export.onnx_file={model}"]
        spec = load_spec(arguments.experiment_spec, words).spec
        export(spec)
        files = {"pth": arguments.checkpoint, "onnx": model}
        sides = {side: files[file] for side, (file, *_) in RUNTIMES.items() if file in files}
        if spec.dataset.quant_calibration_dataset.images_dir:
            for side, (file, runtime, precision) in RUNTIMES.items():
                if file == "int8":
                    served = how(runtime, precision, arguments.threads, section="evaluate")
                    words = [*arguments.overrides, *served]
                    sides[side] = quantize(model, Path(name) / side, arguments.experiment_spec, words)
        rows = {}
        for side, path in sides.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--file", str(path)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows[side] = json.loads(output.splitlines()[-1])
    print("".join(["runtime".ljust(18), *(f"{name:>10}" for name in rows["torch"])]))
    for side, row in rows.items():
        print(side.ljust(18) + "".join(f"{value:10.4f}" if value < 10 else f"{value:10.1f}" for value in row.values()))
    exact = [side for side in rows if RUNTIMES[side][0] != "int8" and RUNTIMES[side][2] == "fp32"]
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
