"""What quantizing a model cost and gave: `quantize.json`, and the same as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oneformer_deploy.quantization.scores import Open
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.model_file import runtime_of
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.tasks import Task

ROUNDS = 5
FREE_SIZE = 512  # pixels, of the picture that models of open size are timed on


def document(spec: Spec, source: Path, target: Path, facts: Mapping[str, Any], open_file: Open) -> dict[str, Any]:
    """Return everything that is known: settings, files with size and speed, and `facts`."""
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
    """Return a line per score, size and speed, before and after."""
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
    kept = content["kept"]
    lines.append(f"{len(content['quantized'])} layers in 8 bits, {len(kept)} stay in float32")
    return "\n".join(lines)


def seconds_per_image(*paths: Path, open_file: Open) -> list[float]:
    """Return the shortest time of one image for each file; they take turns, so that a busy machine is busy for all."""
    segmenters = [open_file(path) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for _ in range(ROUNDS + 1):
        for segmenter, own in zip(segmenters, times, strict=True):
            inputs = _inputs(segmenter)
            start = time.perf_counter()
            segmenter.run(*inputs)
            own.append((time.perf_counter() - start) / len(inputs[0]))
    return [round(min(own[1:]), 5) for own in times]


def _inputs(segmenter: Segmenter) -> tuple[Any, Any]:
    manifest, batch = segmenter.manifest, segmenter.fixed_batch or 1
    height, width = manifest.fixed_size or (FREE_SIZE, FREE_SIZE)
    tokens = np.tile(np.asarray(manifest.task_tokens[Task.PANOPTIC], dtype=np.float32), (batch, 1))
    return np.zeros((batch, 3, height, width), dtype=np.float32), tokens
