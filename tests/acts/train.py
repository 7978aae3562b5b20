"""Fields of the section `train`, and those that no section holds."""

from __future__ import annotations

from acts.observers import (
    encrypted_files,
    kept_for_backward,
    left_behind,
    reported,
    reported_beside_another,
    sharing,
    talk,
    training,
)
from acts.row import Row

OPTIM = "train.optim"
TWO_EPOCHS = ("train.num_epochs=2",)
# Three validations of weights that do not change: a patience of 1 reduces at the third.
STILL = (
    *("train.num_epochs=3", "train.iters_per_epoch=1", f"{OPTIM}.lr=1e-30", f"{OPTIM}.weight_decay=0"),
    *(f"{OPTIM}.lr_scheduler=AutoReduce", f"{OPTIM}.lr_patience=1"),
)

RUN = (
    Row("model_name", "mine", training),
    Row("encryption_key", "mine", encrypted_files),
    Row("results_dir", "$run/elsewhere", training),
    Row("train.is_dry_run", "true", left_behind),
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
    Row("train.val_check_interval", "0.5", training),
    Row("train.losses", "['acts.plugin:area']", training),
    Row("train.callbacks", "['acts.plugin:LimitRate']", training),
    Row("train.loggers", "[csv, 'acts.plugin:table']", training),
    Row("train.freeze", "[backbone]", training),
    Row("train.verbose", "true", talk),
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
    Row(f"{OPTIM}.lr_patience", "2", training, base=STILL),
    Row(f"{OPTIM}.monitor_name", "train_loss", training, base=STILL),
    Row(f"{OPTIM}.warmup_iters", "2", training),
    Row(f"{OPTIM}.warmup_factor", "0.5", training, base=(f"{OPTIM}.warmup_iters=2",)),
    Row(f"{OPTIM}.max_iter", "5", training, base=(f"{OPTIM}.lr_scheduler=WarmupPoly",)),
)
REPORTS = ("wandb.enable=true", "wandb.name=first")
REPORTING = (
    Row("wandb.enable", "true", reported),
    Row("wandb.project", "mine", reported, base=REPORTS),
    Row("wandb.entity", "us", reported, base=REPORTS),
    Row("wandb.group", "mine", reported, base=REPORTS),
    Row("wandb.tags", "[mine]", reported, base=REPORTS),
    Row("wandb.reinit", "true", reported_beside_another, base=REPORTS),
    Row("wandb.sync_tensorboard", "true", reported, base=REPORTS),
    Row("wandb.save_code", "true", reported, base=REPORTS),
    Row("wandb.name", "second", reported, base=REPORTS),
    Row("wandb.run_id", "mine", reported, base=REPORTS),
)
KEEP = "train.checkpointer"
BEST = (f"{KEEP}.enable_topk=true", f"{KEEP}.monitor=mIoU")
FALLING = ("train.pretrained_model_path=$model", f"{OPTIM}.lr=0.01")  # the second epoch is worse than the first
CHECKPOINTER = (
    Row(f"{KEEP}.enable_topk", "true", training, base=(f"{KEEP}.monitor=mIoU",)),
    Row(f"{KEEP}.replace_periodic", "true", training, base=BEST),
    Row(f"{KEEP}.monitor", "loss", training, base=BEST, refusal="'loss' is not measured"),
    Row(f"{KEEP}.mode", "min", training, base=(*BEST, *TWO_EPOCHS, *FALLING)),
    Row(f"{KEEP}.save_top_k", "2", training, base=(*BEST, *TWO_EPOCHS)),
    Row(f"{KEEP}.filename", "best", training, base=BEST),
    Row(f"{KEEP}.dirpath", "$run/elsewhere", training, base=BEST),
    Row(f"{KEEP}.auto_insert_metric_name", "true", training, base=BEST),
    Row(f"{KEEP}.keep_last", "1", training, base=TWO_EPOCHS),
)
ROWS = (*RUN, *OPTIMISER, *CHECKPOINTER, *REPORTING)
