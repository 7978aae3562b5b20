"""A third party's callback, logger, loss and transform, each in a few lines; what they were called with is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor

from oneformer_data.sample import Sample
from oneformer_model import TrainingPrediction
from oneformer_train import Matches, Target, matched_masks

BROKEN = "broken"


@dataclass(frozen=True)
class Options:
    """Of all four."""

    size: int = 1
    fails_in: str = ""


class Recorder(Logger):
    """Writes every entry as a line of `recorded.txt`."""

    def __init__(self, spec: Any, folder: Path, size: int = 1, fails_in: str = "") -> None:
        super().__init__()
        self.file, self.fails_in = folder / "recorded.txt", fails_in

    name = property(lambda self: "recorder")
    version = property(lambda self: "")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.write(f"{step} {' '.join(metrics)}")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.write(f"lr {params['train']['optim']['lr']}")

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.write(f"{step} {key} {images[0].shape}")

    def finalize(self, status: str) -> None:
        self.write(status)
        if self.fails_in == "finalize" and status == "success":
            raise OSError("the server is gone")

    def write(self, line: str) -> None:
        with open(self.file, "a") as file:
            file.write(f"{line}\n")


class Counter(pl.Callback):
    """Counts batches, stores the number in checkpoints, and logs it."""

    def __init__(self, spec: Any, folder: Path, size: int = 1, fails_in: str = "") -> None:
        self.size, self.fails_in, self.batches = size, fails_in, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.fails_in == "batch":
            raise ValueError("no\nlicence")
        self.batches += self.size
        pl_module.log("batches_seen", float(self.batches), on_step=True)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches = state_dict["batches"]


def area(size: int = 1, fails_in: str = "") -> Any:
    """Return a loss: how far the areas of matched masks are off, plus noise that a resumed run has to repeat."""

    def terms(prediction: TrainingPrediction, targets: list[Target], matches: Matches) -> Any:
        logits, truth = matched_masks(prediction, targets, matches)
        off = (logits.sigmoid().mean((1, 2)) - truth.mean((1, 2))).abs().sum() / max(len(logits), 1)
        found: dict[str, Tensor] = {"area": off * (1 + 0.1 * torch.rand(())) / size}
        return {"": found, "shape": {"area": off[None]}, "name": {"mask": off}, "type": [off]}.get(fails_in, found)

    return terms


def stamp(size: int = 1, fails_in: str = "") -> Any:
    """Return a transform: a white square at a random place."""

    def step(sample: Sample, rng: np.random.Generator) -> Any:
        if fails_in == "data" and sample.name == "3.png":
            raise ValueError("cannot stamp\nthis")
        image = sample.image.copy()
        top, left = (int(rng.integers(edge - size + 1)) for edge in sample.size)
        image[top : top + size, left : left + size] = 255
        wrong = {"type": image, "large": replace(sample, image=np.zeros((999, 9, 3), np.uint8))}
        wrong["large"] = replace(wrong["large"], id_maps=np.zeros((1, 999, 9), np.int32))  # type: ignore[type-var]
        return wrong.get(fails_in, replace(sample, image=image))

    return step


def not_a_part(spec: Any, folder: Path, size: int = 1, fails_in: str = "") -> object:
    """Return something else."""
    return object()
