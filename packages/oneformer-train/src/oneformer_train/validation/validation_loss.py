"""`val_loss`: the training loss on validation pictures, whole and not augmented, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import Dataset

from oneformer_data.training.pipeline import Example, TrainingPipeline, example_rng
from oneformer_model import OneFormer
from oneformer_spec.processes.world import ALONE, World
from oneformer_spec.schema import Spec
from oneformer_train.batches.batch import Batch, collate
from oneformer_train.batches.loader_errors import Batches, Loader, unchanged
from oneformer_train.batches.loaders import PictureBatches, prepare_worker
from oneformer_train.loss.criterion import Criterion
from oneformer_train.loss.matcher import Target
from oneformer_train.loss.points import uniform_points
from oneformer_train.processes import group

_SEED = 0  # of tasks and sample points; not the run's, so that runs can be compared


class ValidationLoss:
    """The mean loss of an example. Tasks and sample points are those of the validation before."""

    def __init__(self, criterion: Criterion, *, factor: float) -> None:
        """Measure with the criterion of training, times the factor on the whole loss."""
        self.criterion = criterion
        self.factor = factor
        self._sums: Tensor | None = None  # (2,): of losses, of examples

    def update(self, batch: Batch, model: OneFormer) -> None:
        """Add a batch; the model is in eval mode."""
        assert model.text_branch is not None
        prediction = model(batch.image, batch.task_tokens, batch.texts)
        targets = [Target(labels, masks) for labels, masks in zip(batch.labels, batch.masks, strict=True)]
        device = batch.image.device
        draw = uniform_points(device, torch.Generator(device).manual_seed(_SEED))
        terms = self.criterion(prediction, targets, model.text_branch.logit_scale, draw, across_ranks=False)
        added = torch.stack([terms["loss"].detach(), torch.ones((), device=device)]) * len(batch.names)
        self._sums = added if self._sums is None else self._sums + added

    def compute(self, device: torch.device) -> Tensor:
        """Return the mean over the examples of all ranks, and start anew."""
        sums = torch.zeros(2, device=device) if self._sums is None else self._sums
        self._sums = None
        sums = group.mean(sums)
        return self.factor * sums[0] / sums[1]


class _Examples(Dataset[Example]):
    """The examples of a pipeline, each with random choices of its own that never change."""

    def __init__(self, pipeline: TrainingPipeline) -> None:
        self.pipeline = pipeline

    def __len__(self) -> int:
        return len(self.pipeline)

    def __getitem__(self, index: int) -> Example:
        return self.pipeline.example(index, example_rng(_SEED, index))


def validation_loss_loader(pipeline: TrainingPipeline, spec: Spec, world: World = ALONE) -> Loader:
    """Return the loader of what one process computes the validation loss on, `Batch` or None, in order."""
    return Loader(
        Batches(_Examples(pipeline), partial(_collated, cut_texts=spec.model.text_encoder.causal)),
        batch_sampler=PictureBatches(len(pipeline), spec.dataset.val.batch_size, world),
        collate_fn=unchanged,
        num_workers=spec.dataset.val.num_workers,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # starting to iterate would draw from torch's global one
    )


def _collated(examples: Sequence[Example], *, cut_texts: bool) -> Batch | None:
    return collate(examples, cut_texts=cut_texts) if examples else None
