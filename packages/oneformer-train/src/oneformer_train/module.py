"""The Lightning module: one step, one validation batch, one optimiser; everything else lives beside it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from oneformer_data.sample import Sample
from oneformer_model import OneFormer
from oneformer_spec.schema import TrainSection
from oneformer_train import ranks
from oneformer_train.batch import Batch
from oneformer_train.course import Course, recount
from oneformer_train.losses import Criterion, Target
from oneformer_train.optim import optimizer
from oneformer_train.points import points_of_images
from oneformer_train.schedule import Factor, lr_factor, move_to
from oneformer_train.seeds import points_seed, step_seed
from oneformer_train.validation import Validation


class TrainingModule(pl.LightningModule):
    """Trains a model with the criterion as `train.*` says; the checkpointed weights are `model`'s alone."""

    def __init__(
        self,
        model: OneFormer,
        criterion: Criterion,
        options: TrainSection,
        *,
        course: Course,
        loss_factor: float,
        validation: Validation | None,
    ) -> None:
        """Hold the parts; `course` is counted on with every batch, `loss_factor` scales the whole loss."""
        super().__init__()
        self.model = model
        self.criterion = criterion
        self.options = options
        self.loss_factor = loss_factor
        self.course = course
        self.validation = validation

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of the inverse contrastive temperature, which is trained with the text branch."""
        assert self.model.text_branch is not None
        return self.model.text_branch.logit_scale

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Return the losses of a batch of all processes by name; "loss" is what is minimised."""
        seed, first = self.options.seed, self.course.samples_done
        own = range(first + ranks.rank() * len(batch.names), first + (ranks.rank() + 1) * len(batch.names))
        torch.manual_seed(step_seed(seed, first, ranks.rank()))
        prediction = self.model(batch.image, batch.task_tokens, batch.texts)
        targets = [Target(labels, masks) for labels, masks in zip(batch.labels, batch.masks, strict=True)]
        draw = points_of_images(batch.image.device, [points_seed(seed, position) for position in own])
        terms: dict[str, Tensor] = self.criterion(prediction, targets, self.logit_scale, draw)
        self.course.count()  # a checkpoint after this step goes on with the next batch of the stream
        return ranks.mean_terms({name: self.loss_factor * value for name, value in terms.items()})

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move training batches; validation pictures stay as they are, the segmenter moves what the network sees."""
        if not isinstance(batch, Batch):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def validation_step(self, batch: list[Sample], batch_index: int) -> None:
        """Score one batch of annotated pictures at their original size."""
        if self.validation is not None:
            self.validation.update(batch, self._run)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all validation pictures."""
        if self.validation is not None:
            self.log_dict(self.validation.compute())

    def _run(self, image: Any, task_tokens: Any) -> tuple[Tensor, Tensor]:
        prediction = self.model(torch.from_numpy(image).to(self.device), torch.from_numpy(task_tokens).to(self.device))
        return prediction.class_logits.float(), prediction.mask_logits.float()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and a schedule that advances with every optimiser step."""
        built = optimizer(self.model, self.options.optim)
        schedule = LambdaLR(built, self._lr_factor())
        return {"optimizer": built, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _lr_factor(self) -> Factor:
        steps = self.course.steps_per_epoch
        return lr_factor(self.options.optim, total_steps=self.options.num_epochs * steps, steps_per_epoch=steps)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as `train.clip_grad_type` says, after gradients have been unscaled."""
        limit = self.options.clip_grad_norm
        if limit == 0 or self.options.clip_grad_type == "none":
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if self.options.clip_grad_type == "value":
            torch.nn.utils.clip_grad_value_(parameters, limit)
        else:
            torch.nn.utils.clip_grad_norm_(parameters, limit, norm_type=float(self.options.clip_grad_norm_type))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how far the run is; nothing random, since the place in the stream decides what is drawn."""
        checkpoint.update(self.course.state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint was written, also with batches of another size."""
        steps = self.course.resume(checkpoint)
        if steps is not None:
            recount(checkpoint["loops"], self.course, steps)
            move_to(steps, self._lr_factor(), checkpoint)
