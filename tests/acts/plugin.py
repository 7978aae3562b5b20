"""A transform, a loss, a callback and a logger of one's own."""

from dataclasses import replace

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

from oneformer_train import matched_masks


def negative(probability=1.0):
    """Return a transform: f(sample, rng) -> sample."""

    def step(sample, rng):
        return replace(sample, image=255 - sample.image) if rng.random() < probability else sample

    return step


def area():
    """Return a loss: how far the areas of matched masks are off, as parts of the image."""

    def terms(prediction, targets, matches):
        logits, truth = matched_masks(prediction, targets, matches)  # (M, h, w) each; M may be 0
        off = (logits.sigmoid().mean((1, 2)) - truth.mean((1, 2))).abs()
        return {"area": off.sum() / max(len(off), 1)}

    return terms


class LimitRate(pl.Callback):
    """Lets no learning rate exceed a limit."""

    def __init__(self, limit=1e-6):
        self.limit = limit

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = min(group["lr"], self.limit)


def table(folder):
    """Return a logger: Lightning's own CSV logger, in the folder of the run."""
    return CSVLogger(str(folder), name="table")
