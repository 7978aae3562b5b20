"""The report of a quantization, `quantize.json` and a printed table: scores, size and speed before and after."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oneformer_deploy.quantization.scores import OpenModel
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.model_file import runtime_of
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.tasks import Task

ROUNDS = 5
OPEN_SIZE = 512  # pixels per edge of the image on which models with open input sizes are timed


def document(spec: Spec, source: Path, target: Path, facts: Mapping[str, Any], open_file: OpenModel) -> dict[str, Any]:
    """Return the content of `quantize.json`: settings, size and speed of both files, and `facts`."""
    options = spec.quantize
    seconds = seconds_per_image(source, target, open_file=open_file)
    files = {
        name: {"path": str(path), "bytes": path.stat().st_size, "seconds_per_image": seconds[index]}
        for index, (name, path) in enumerate((("before", source), ("after", target)))
    }
    settings = {name: getattr(options, name) for name in ("backend", "mode", "algorithm", "device", "max_metric_drop")}
    served = {"runtime": runtime_of(str(target), spec.evaluate).name, "precision": spec.evaluate.precision}
    speed = {"files": files, "speedup": round(seconds[0] / seconds[1], 3)}
    return {"settings": settings, "served": served, **speed, **facts}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the report as JSON."""
    write_atomically(path, f"{json.dumps(content, indent=1)}\n")


def table(content: Mapping[str, Any]) -> str:
    """Format the report as a table with a row per score, for size and for speed, before and after."""
    before, after = content["files"]["before"], content["files"]["after"]
    rows = [
        (name, f"{was:.4f}", f"{content['scores_after'][name]:.4f}")
        for name, was in content.get("scores_before", {}).items()
    ]
    rows += [
        ("MB", f"{before['bytes'] / 1e6:.1f}", f"{after['bytes'] / 1e6:.1f}"),
        ("ms per image", f"{before['seconds_per_image'] * 1e3:.0f}", f"{after['seconds_per_image'] * 1e3:.0f}"),
    ]
    lines = [f"{name:<14} {was:>10} {now:>10}" for name, was, now in (("", "before", "after"), *rows)]
    lines.append(f"{len(content['quantized'])} layers in 8 bits, {len(content['kept'])} stay in float32")
    return "\n".join(lines)


def seconds_per_image(*paths: Path, open_file: OpenModel) -> list[float]:
    """Return the best time per image for each model file; runs alternate, so load on the machine affects all alike."""
    segmenters = [open_file(path) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for _ in range(ROUNDS + 1):
        for segmenter, rounds in zip(segmenters, times, strict=True):
            inputs = _blank_inputs(segmenter)
            start = time.perf_counter()
            segmenter.run(*inputs)
            rounds.append((time.perf_counter() - start) / len(inputs[0]))
    return [round(min(rounds[1:]), 5) for rounds in times]  # the first run warms up


def _blank_inputs(segmenter: Segmenter) -> tuple[Any, Any]:
    manifest, batch = segmenter.manifest, segmenter.fixed_batch or 1
    height, width = manifest.fixed_size or (OPEN_SIZE, OPEN_SIZE)
    tokens = np.tile(np.asarray(manifest.task_tokens[Task.PANOPTIC], dtype=np.float32), (batch, 1))
    return np.zeros((batch, 3, height, width), dtype=np.float32), tokens
