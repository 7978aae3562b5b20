"""Fields of the section `train`, and those that no section holds."""

from __future__ import annotations

from acts.observers import kept_for_backward, notes, sharing, training
from acts.row import Row

OPTIM = "train.optim"
TWO_EPOCHS = ("train.num_epochs=2",)

RUN = (
    Row("model_name", "mine", training),
    Row("results_dir", "$run/elsewhere", training),
    Row("wandb.enable", "true", notes),
    Row("train.results_dir", "$run/elsewhere", training),
    Row("train.num_gpus", "2", training),
    Row("train.gpu_ids", "[70]", training, refusal="train.gpu_ids: 70"),
    Row("train.num_nodes", "2", training, refusal="train.num_nodes: 2: start the run on every machine"),
    Row("train.distributed_strategy", "fsdp", sharing),
    Row("train.seed", "1", training),
    Row("train.cudnn.benchmark", "true", training),
    Row("train.cudnn.deterministic", "false", training),
    Row("train.num_epochs", "2", training),
    Row("train.iters_per_epoch", "3", training),
    Row("train.accumulate_grad_batches", "2", training),
    Row("train.checkpoint_interval", "2", training),
    Row("train.checkpoint_interval_unit", "step", training),
    Row("train.validation_interval", "2", training),
    Row("train.resume_training_checkpoint_path", "$resumable", training, base=TWO_EPOCHS),
    Row("train.pretrained_model_path", "$model", training),
    Row(
        "train.reinit_heads",
        "false",
        training,
        base=("train.reinit_heads=true", "train.pretrained_model_path=$three"),
        refusal="train.reinit_heads starts heads of another number of classes anew",
    ),
    Row("train.activation_checkpoint", "false", kept_for_backward),
    Row("train.precision", "bf16", training),
    Row("train.clip_grad_type", "value", training),
    Row("train.clip_grad_norm", "1.0", training),
    Row("train.clip_grad_norm_type", "inf", training),
)
OPTIMISER = (
    Row(f"{OPTIM}.type", "SGD", training),
    Row(f"{OPTIM}.lr", "0.001", training),
    Row(f"{OPTIM}.backbone_multiplier", "0.5", training),
    Row(f"{OPTIM}.momentum", "0.5", training),
    Row(f"{OPTIM}.weight_decay", "0.1", training),
    Row(f"{OPTIM}.lr_scheduler", "Cosine", training),
    Row(f"{OPTIM}.milestones", "[1]", training, base=TWO_EPOCHS),
    Row(f"{OPTIM}.steps", "[1]", training),
    Row(f"{OPTIM}.gamma", "0.5", training, base=(f"{OPTIM}.steps=[1]",)),
    Row(f"{OPTIM}.lr_step_size", "1", training, base=(*TWO_EPOCHS, f"{OPTIM}.lr_scheduler=StepLR")),
    Row(f"{OPTIM}.warmup_iters", "2", training),
    Row(f"{OPTIM}.warmup_factor", "0.5", training, base=(f"{OPTIM}.warmup_iters=2",)),
    Row(f"{OPTIM}.max_iter", "5", training, base=(f"{OPTIM}.lr_scheduler=WarmupPoly",)),
)
ROWS = (*RUN, *OPTIMISER)
