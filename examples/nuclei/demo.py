"""The whole way on one page: train, evaluate, predict, export, and run the export where torch is not installed.

`nox -s demo` runs this from the repository's root. Every command that it runs is printed as a user would type it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from oneformer_model.build import build
from oneformer_model.weights import checkpoint
from oneformer_spec import (
    TASKS,
    Labels,
    Manifest,
    Segmenter,
    Task,
    find_images,
    load_spec,
    read_image,
    registry,
    resolve,
)
from oneformer_spec.segmentation.frame import plan

SPEC = "examples/nuclei/demo.yaml"
IMAGES = Path("examples/nuclei/images/val")
LEAST_MIOU = 0.75
LEAST_EQUAL_PIXELS = 0.999
LARGEST_LOGIT_DIFFERENCE = 1e-3


def main() -> None:
    """Run the demo; the exit code is 1 when a result falls short of what the documentation promises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deploy-python", default=sys.executable, help="Python of an environment without torch")
    parser.add_argument("--results", type=Path, default=Path("results/nuclei"), help="folder of the results, made anew")
    options = parser.parse_args()
    began = time.monotonic()
    results: Path = options.results
    shutil.rmtree(results, ignore_errors=True)
    here = f"results_dir={results}"
    trained, exported = results / "train" / "oneformer_model_latest.pth", results / "export" / "model.onnx"
    oneformer = [str(Path(sys.executable).with_name("oneformer"))]
    deploy = [options.deploy_python, "-m", "oneformer_deploy"]

    untrained = write_untrained(results / "untrained.pth")
    score = [*oneformer, "evaluate", "-e", SPEC, here]
    command(*score, f"evaluate.checkpoint={untrained}", f"evaluate.results_dir={results}/evaluate_untrained")
    command(*oneformer, "train", "-e", SPEC, here)
    command(*score, f"evaluate.checkpoint={trained}")
    command(*oneformer, "inference", "-e", SPEC, here, f"inference.checkpoint={trained}")
    command(*oneformer, "export", "-e", SPEC, here, f"export.checkpoint={trained}", f"export.onnx_file={exported}")
    onnx_results = results / "inference_onnx"
    command(
        *[*deploy, "inference", f"inference.checkpoint={exported}", f"inference.images_dir={IMAGES}"],
        *["inference.mode=all", f"inference.results_dir={onnx_results}", f"{here}"],
    )

    scores = [json.loads((results / name / "metrics.json").read_text()) for name in ("evaluate_untrained", "evaluate")]
    equal = equal_pixels(results / "inference", onnx_results)
    logits_apart = compare_logits(trained, exported)
    table = [
        ("", "untrained", "trained"),
        *((name, *(f"{headline(score)[name]:.3f}" for score in scores)) for name in headline(scores[0])),
    ]
    print("\n" + "\n".join(f"{name:<24}{before:>12}{after:>12}" for name, before, after in table))
    print(f"\ntask token swapped      class logits move by up to {logits_apart.swapped:.2f}")
    print(
        f"ONNX without torch      {100 * equal:.3f} % of the pixels equal; mask logits of 95 % of the queries within "
        f"{logits_apart.usual:.1e}, the worst within {logits_apart.worst:.1e} of the largest logit"
    )
    print(f"pictures                {results / 'inference'}/{{semantic,instance,panoptic}}/overlay")
    print(f"time                    {(time.monotonic() - began) / 60:.1f} minutes")
    check(headline(scores[0]), headline(scores[1]), equal, logits_apart)


def check(before: dict[str, float], after: dict[str, float], equal: float, apart: Comparison) -> None:
    """End with a message if a result falls short."""
    failures = [
        text
        for failed, text in (
            (after["mIoU"] < LEAST_MIOU, f"mIoU is {after['mIoU']:.3f}, at least {LEAST_MIOU} is expected"),
            (after["nucleus PQ"] <= 0.0, "nucleus PQ is 0"),
            (after["AP50"] <= 0.0, "AP50 is 0"),
            (before["mIoU"] > LEAST_MIOU - 0.2, f"untrained weights already reach mIoU {before['mIoU']:.3f}"),
            (equal < LEAST_EQUAL_PIXELS, "the exported model's maps differ from the checkpoint's"),
            (
                max(apart.usual, apart.worst) > LARGEST_LOGIT_DIFFERENCE,
                "the exported model's mask logits differ from the checkpoint's",
            ),
            (apart.swapped < LARGEST_LOGIT_DIFFERENCE, "the task token does nothing"),
        )
        if failed
    ]
    if failures:
        sys.exit("the demo fell short: " + "; ".join(failures))


def command(*words: str) -> None:
    """Print a command and run it."""
    print("\n$ " + shlex.join([Path(words[0]).name, *words[1:]]), flush=True)
    finished = subprocess.run(words, check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def write_untrained(path: Path) -> Path:
    """Save the demo's network as training begins with it."""
    spec = load_spec([SPEC]).spec
    torch.manual_seed(spec.train.seed)
    model = build(spec.model, training=False)
    manifest = Manifest.from_spec(spec, Labels.read(spec.dataset.label_map), {})
    checkpoint.save(path, state_dict=model.state_dict(), manifest=manifest)
    return path


def headline(metrics: dict[str, object]) -> dict[str, float]:
    """Return the numbers of the table."""
    panoptic, instance = metrics["PQ"], metrics["AP"]
    assert isinstance(panoptic, dict) and isinstance(instance, dict)
    return {
        "mIoU": float(str(metrics["mIoU"])),
        "PQ": panoptic["all"]["pq"],
        "nucleus PQ": panoptic["per_class"]["1"]["pq"],
        "AP": instance["AP"],
        "AP50": instance["AP50"],
    }


def equal_pixels(first: Path, second: Path) -> float:
    """Return the smallest share over the tasks of pixels whose category or segment id is the same in both results."""
    shares = []
    for task in TASKS:
        pairs = [
            (labels, second / task / "labels" / labels.relative_to(first / task / "labels"))
            for labels in sorted((first / task / "labels").rglob("*.png"))
        ]
        same = [np.asarray(Image.open(one)) == np.asarray(Image.open(other)) for one, other in pairs]
        shares.append(float(np.mean([equal.mean() for equal in same])))
    return min(shares)


@dataclass(frozen=True)
class Comparison:
    """How far the exported model's mask logits are from the checkpoint's, over all images, tasks and queries.

    `usual` is what 95 % of the queries keep. A logit within rounding of the attention mask's threshold may switch one
    pixel of one query's attention, which moves that query alone: `worst` is relative to the image's largest logit.
    `swapped` is how far class logits move when the token of another task is given.
    """

    usual: float
    worst: float
    swapped: float


def compare_logits(trained: Path, exported: Path) -> Comparison:
    """Run both files on every validation image and task."""
    torch_segmenter, onnx_segmenter = (open_model(path) for path in (trained, exported))
    by_query, worst, swapped = [], 0.0, 0.0
    for path in find_images(IMAGES):
        image = read_image(path)
        by_task = {}
        for task in TASKS:
            (classes, masks), (_, others) = (logits(one, image, task) for one in (torch_segmenter, onnx_segmenter))
            distance = np.abs(masks - others).reshape(len(masks), -1).max(axis=1)  # (Q, h, w) -> (Q,)
            by_query.append(distance)
            worst = max(worst, float(distance.max() / np.abs(masks).max()))
            by_task[task] = classes
        swapped = max(swapped, float(np.abs(by_task[Task.SEMANTIC] - by_task[Task.INSTANCE]).max()))
    return Comparison(float(np.quantile(np.concatenate(by_query), 0.95)), worst, swapped)


def open_model(path: Path) -> Segmenter:
    """Open a model file with the runtime of its suffix, at the exported size."""
    segmenter: Segmenter = resolve(registry().runtime(path).target)(path, "cpu")
    return segmenter


def logits(segmenter: Segmenter, image: np.ndarray, task: Task) -> Sequence[np.ndarray]:
    """Return class and mask logits of one image."""
    size = (image.shape[0], image.shape[1])
    frame = plan(size, segmenter.manifest.size, divisibility=32, fixed=segmenter.manifest.fixed_size)
    return [np.asarray(values[0]) for values in segmenter.logits([image], [frame], task)]


if __name__ == "__main__":
    main()
