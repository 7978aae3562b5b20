"""Fields of the section `train`, and those that no section holds."""

from __future__ import annotations

from acts.observers import encrypted_files, kept_for_backward, notes, training
from acts.row import Row

OPTIM = "train.optim"
TWO_EPOCHS = ("train.num_epochs=2",)

RUN = (
    Row("model_name", "mine", training),
    Row("encryption_key", "mine", encrypted_files),
    Row("results_dir", "$run/elsewhere", training),
    Row("wandb.enable", "true", notes),
    Row("train.results_dir", "$run/elsewhere", training),
    Row("train.gpu_ids", "[70]", training, refusal="train.gpu_ids: 70"),
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
ROWS = (*RUN, *OPTIMISER, *CHECKPOINTER)
