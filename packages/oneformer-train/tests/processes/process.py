"""One process of several: trains on one spec after the other and writes down the losses of every batch.

Argument: a JSON file of jobs. Each is the words of a spec, a file for its losses, and the port where its processes meet
where torchrun does not say that.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch

from oneformer_spec.loading.load import load_spec
from oneformer_train import command as commands


class Losses(pl.Callback):
    """Keeps the losses of every batch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.rows.append({name: float(value.detach()) for name, value in outputs.items()})


def train(words: list[str]) -> list[dict[str, float]]:
    """Train as the command does and return the losses of every batch."""
    losses, make_trainer = Losses(), commands.make_trainer

    def listening(*arguments: Any, **options: Any) -> pl.Trainer:
        built = make_trainer(*arguments, **options)
        built.callbacks.insert(0, losses)
        return built

    with patch.object(commands, "make_trainer", listening):
        commands.run(load_spec([words[0]], words[1:], task="train").spec)
    return losses.rows


def main(jobs: str) -> None:
    """Do all jobs in their order."""
    torch.set_num_threads(1)
    for job in json.loads(Path(jobs).read_text()):
        if "port" in job:
            os.environ["MASTER_PORT"] = str(job["port"])
        rows = train(job["words"])
        Path(f"{job['losses']}.{os.environ['RANK']}").write_text(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1])
