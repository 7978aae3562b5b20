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
from oneformer_train.batches.batch import Batch
from oneformer_train.batches.randomness import prepare_step
from oneformer_train.checkpoints.position import Course, recount
from oneformer_train.loss.criterion import Criterion
from oneformer_train.loss.matcher import Target
from oneformer_train.loss.nonfinite import check_finite
from oneformer_train.optimisation.optimizer import Trained, optimizer, take_up
from oneformer_train.optimisation.plateau import Plateau
from oneformer_train.optimisation.schedule import Factor, apply_rates, lr_factor, move_to
from oneformer_train.processes import group
from oneformer_train.validation.scores import Validation
from oneformer_train.validation.validation_loss import ValidationLoss


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
        self.validation_loss = ValidationLoss(criterion, factor=loss_factor)
        self.plateau = Plateau(gamma=options.optim.gamma, patience=options.optim.lr_patience)
        self.losses: dict[str, Tensor] = {}  # of the newest batch of all processes, as training_step returned them
        self.gradient_norm: Tensor | None = None  # of the newest step before clipping, where it is computed

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of the inverse contrastive temperature, which is trained with the text branch."""
        assert self.model.text_branch is not None
        return self.model.text_branch.logit_scale

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Return the losses of a batch of all processes by name; "loss" is what is minimised."""
        draw = prepare_step(self.options.seed, self.course.samples_done, group.rank(), len(batch.names), self.device)
        prediction = self.model(batch.image, batch.task_tokens, batch.texts)
        targets = [Target(labels, masks) for labels, masks in zip(batch.labels, batch.masks, strict=True)]
        terms: dict[str, Tensor] = self.criterion(prediction, targets, self.logit_scale, draw)
        own = {name: self.loss_factor * value for name, value in terms.items()}
        losses = group.mean_terms(own)
        self.losses = {name: value.detach() for name, value in losses.items()}
        check_finite("the loss", self.losses["loss"], own)
        self.course.count()  # a checkpoint after this step goes on with the next batch of the stream
        return losses

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move training batches; validation pictures stay as they are, the segmenter moves what the network sees."""
        if not isinstance(batch, Batch):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def validation_step(self, batch: list[Sample] | Batch | None, batch_index: int, dataloader_idx: int = 0) -> None:
        """Score annotated pictures at their original size, or add a batch of examples to the validation loss."""
        if isinstance(batch, Batch):
            self.validation_loss.update(batch, self.model)
        elif batch and self.validation is not None:
            self.validation.update(batch, self.run)

    def on_validation_epoch_end(self) -> None:
        """Log scores and loss of all validation pictures."""
        if self.validation is not None:
            loss = self.validation_loss.compute(self.device)
            # Curves sends them to the loggers, under names of their own.
            self.log_dict({**self.validation.compute(), "val_loss": loss}, logger=False)

    def on_validation_end(self) -> None:
        """Stop with an evaluator's failure; at an epoch's end its checkpoint comes first."""
        if self.validation is not None and not self.trainer.is_last_batch:
            self.validation.raise_failure()

    def on_train_epoch_end(self) -> None:
        """Stop with an evaluator's failure in the validation at the end of this epoch, whose checkpoint is written."""
        if self.validation is not None:
            self.validation.raise_failure()

    def run(self, image: Any, task_tokens: Any) -> tuple[Tensor, Tensor]:
        """Run the network for a `Segmenter`: arrays (B, 3, H, W) and (B, L) -> class logits and mask logits."""
        prediction = self.model(torch.from_numpy(image).to(self.device), torch.from_numpy(task_tokens).to(self.device))
        return prediction.class_logits.float(), prediction.mask_logits.float()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and a schedule that advances with every optimiser step."""
        built = optimizer(self.model, self.options.optim, scaled=self.options.precision == "fp16")
        schedule = LambdaLR(built, self._lr_factor())
        return {"optimizer": built, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _lr_factor(self) -> Factor:
        steps = self.course.steps_per_epoch
        total = self.options.num_epochs * steps
        return lr_factor(self.options.optim, self.plateau, total_steps=total, steps_per_epoch=steps)

    def on_train_start(self) -> None:
        """Let the spec's settings count where a checkpoint brought those of another run."""
        scheduler = self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(scheduler, LambdaLR)
        scheduler.base_lrs = take_up(self.trainer.optimizers[0], self.model, self.options.optim)
        apply_rates(scheduler)

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
            kind = float(self.options.clip_grad_norm_type)
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(parameters, limit, norm_type=kind)
            if self.trainer.scaler is None:  # with one, it skips the step and scales less
                check_finite("the gradient norm", self.gradient_norm, self.losses)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how far the run is; nothing random, since the place in the stream decides what is drawn."""
        checkpoint.update(self.course.state())
        checkpoint["trained"] = Trained.of(self.model, self.options.optim).plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint was written, also with batches of another size."""
        Trained.of(self.model, self.options.optim).check(checkpoint["trained"], f"{self.trainer.ckpt_path}")
        steps = self.course.resume(checkpoint)
        if steps is not None:
            recount(checkpoint["loops"], self.course, steps)
            move_to(steps, self._lr_factor(), checkpoint)
