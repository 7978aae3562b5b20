"""Section `train`: the optimiser, its schedule, devices and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from oneformer_spec.plugins.option import Entry, option, section


@dataclass(frozen=True)
class Cudnn:
    """Switches of NVIDIA's cuDNN."""

    benchmark: bool = option(False, help="Measure convolution algorithms and take the fastest.")
    deterministic: bool = option(True, help="Use only convolution algorithms that give the same result every time.")


@dataclass(frozen=True)
class Checkpointer:
    """Which checkpoints stay."""

    enable_topk: bool = option(False, help="Keep the best checkpoints by a metric as well.")
    replace_periodic: bool = option(False, help="Keep the best checkpoints instead of the periodic ones.")
    monitor: str | None = option(None, help="Metric that ranks checkpoints.")
    mode: str | None = option(None, choices=("min", "max"), help="Whether a small or a large metric is good.")
    save_top_k: int = option(1, minimum=1, help="Number of best checkpoints that stay.")
    filename: str = option("model_best_{epoch:03d}", help="Name of a best checkpoint, without its suffix.")
    dirpath: str | None = option(None, help="Folder of the best checkpoints; null is the task's results folder.")
    auto_insert_metric_name: bool = option(False, help="Write the names of metrics into file names.")
    keep_last: int | None = option(None, minimum=1, help="Number of periodic checkpoints that stay; null keeps all.")


@dataclass(frozen=True)
class Optim:
    """The optimiser and the course of its learning rate."""

    type: str = option("AdamW", choices=("AdamW", "SGD"), help="Optimiser.")
    lr: float = option(2e-4, above=0, help="Learning rate of everything but the backbone.", common=True)
    backbone_multiplier: float = option(
        0.1, above=0, maximum=1, help="Factor on the learning rate of the backbone.", common=True
    )
    momentum: float = option(0.9, minimum=0, maximum=1, help="Momentum of SGD, beta1 of AdamW.")
    weight_decay: float = option(1e-4, minimum=0, help="Weight decay.", common=True)
    lr_scheduler: str = option(
        "MultiStep",
        choices=("MultiStep", "StepLR", "WarmupPoly", "AutoReduce", "Cosine", "constant"),
        help="Course of the learning rate.",
        common=True,
    )
    milestones: tuple[int, ...] = option(
        (11,), minimum=1, ascending=True, help="Epochs after which MultiStep multiplies the rate by gamma.", common=True
    )
    steps: tuple[int, ...] | None = option(
        None, minimum=1, ascending=True, help="Milestones in optimiser steps, in place of milestones."
    )
    gamma: float = option(0.1, above=0, help="Factor on the learning rate at a milestone, or when AutoReduce acts.")
    lr_step_size: int = option(11, minimum=1, help="Epochs between two steps of StepLR.")
    lr_patience: int = option(
        2, minimum=1, help="Validations in a row without improvement that AutoReduce bears; the next makes it act."
    )
    monitor_name: str = option(
        "val_loss",
        choices=("val_loss", "train_loss"),
        help="Loss that AutoReduce watches; train_loss is the mean since the last validation.",
    )
    warmup_iters: int | None = option(
        None,
        minimum=0,
        help="Optimiser steps of the warm-up; null is min(1000, a tenth of the run) for WarmupPoly and Cosine, else 0.",
        common=True,
    )
    warmup_factor: float = option(0.001, minimum=0, maximum=1, help="Factor that the warm-up starts from.")
    max_iter: int | None = option(
        None, minimum=1, help="Optimiser steps until the schedule ends; null is the whole run."
    )


@dataclass(frozen=True)
class TrainSection:
    """Everything that training needs beside data and network."""

    num_gpus: int = option(
        1,
        minimum=1,
        maximum=1024,
        help="Devices per node, or CPU processes where there is no GPU; gpu_ids may imply more.",
        common=True,
    )
    gpu_ids: tuple[int, ...] = option((0,), minimum=0, distinct=True, min_length=1, help="Devices to use on each node.")
    num_nodes: int = option(
        1, minimum=1, help="Machines that train together; torchrun or srun starts the run on each of them."
    )
    seed: int = option(1234, minimum=0, maximum=2**32 - 1, help="Seed of everything random.", common=True)
    cudnn: Cudnn = section(Cudnn, help="Switches of cuDNN.")
    num_epochs: int = option(10, minimum=1, help="Passes over the training data.", common=True)
    iters_per_epoch: int | None = option(
        None, minimum=1, help="Optimiser steps per epoch; null follows from the length of the data.", common=True
    )
    accumulate_grad_batches: int = option(1, minimum=1, help="Batches whose gradients make one optimiser step.")
    checkpoint_interval: int = option(
        1, minimum=1, help="Checkpoints are written every so many epochs or steps.", common=True
    )
    checkpoint_interval_unit: str = option("epoch", choices=("epoch", "step"), help="Unit of checkpoint_interval.")
    validation_interval: int = option(1, minimum=1, help="Epochs from one validation to the next.", common=True)
    val_check_interval: float = option(
        1.0,
        above=0,
        help="From one validation to the next: part of an epoch, or optimiser steps of the run when above 1.",
    )
    resume_training_checkpoint_path: str | None = option(
        None, help="Checkpoint to continue from; null continues from the latest in the results folder."
    )
    results_dir: str | None = option(None, help="Folder of the run; null is <results_dir>/train.")
    pretrained_model_path: str | None = option(
        None,
        help="Checkpoint whose weights training starts from: ours, TAO's, SHI-Labs' or Hugging Face's.",
        common=True,
    )
    reinit_heads: bool = option(
        False, help="Start heads anew whose number of classes differs from the pretrained model's."
    )
    freeze: tuple[str, ...] | None = option(
        (), help="Parts that are not trained: paths of modules or parameters, their beginnings, or customary names."
    )
    checkpointer: Checkpointer = section(Checkpointer, help="Which checkpoints stay.")
    optim: Optim = section(Optim, help="Optimiser and schedule.")
    clip_grad_type: str = option(
        "full",
        choices=("full", "value", "none"),
        spellings={"full_model": "full"},
        help="What is clipped: the norm over all gradients, each value, or nothing.",
    )
    clip_grad_norm: float = option(0.1, minimum=0, help="Limit of clipping; 0 clips nothing.", common=True)
    clip_grad_norm_type: float | str = option(
        2.0, above=0, choices=("inf",), help="Order of the norm that is clipped, a number or inf."
    )
    precision: str = option(
        "fp32",
        choices=("fp32", "fp16", "bf16"),
        spellings={
            "32": "fp32",
            "32-true": "fp32",
            "16": "fp16",
            "16-mixed": "fp16",
            "bf16-mixed": "bf16",
        },
        help="Number format of the forward pass; weights, losses and matching stay in 32 bit.",
        common=True,
    )
    activation_checkpoint: bool = option(
        True, help="Recompute activations in the backward pass to save memory.", common=True
    )
    distributed_strategy: str = option(
        "ddp",
        choices=("ddp", "ddp_sharded", "fsdp"),
        help="What devices share: ddp nothing, ddp_sharded optimiser state and gradients, fsdp the weights as well.",
    )
    losses: tuple[Entry, ...] = option(
        (), names="loss", help="Further losses: a name, or {type: NAME or module:Class, options}."
    )
    callbacks: tuple[Entry, ...] = option(
        (), names="callback", help="Lightning callbacks of plugins: a name, or {type: NAME or module:Class, options}."
    )
    loggers: tuple[Entry, ...] = option(
        (Entry("tensorboard"), Entry("csv")),
        names="logger",
        choices=("tensorboard", "csv"),
        help="Where metrics go: a name, or {type: NAME or module:Class, options}.",
    )
    is_dry_run: bool = option(False, help="Try two steps of everything, report time and memory, leave nothing behind.")
    verbose: bool = option(False, help="Tell what is trained and how, and write a line per optimiser step.")


@dataclass(frozen=True)
class Wandb:
    """Reports go out when the wandb package is installed and a key is set."""

    enable: bool = option(
        True, help="Report the run when the wandb package is installed and a key or WANDB_MODE=offline is set."
    )
    project: str = option("oneformer", help="Project that the run belongs to.")
    entity: str | None = option("", help="User or team that owns the project; empty is the key's own.")
    group: str | None = option("", help="Group of runs that are shown together.")
    tags: tuple[str, ...] = option((), help="Tags of the run.")
    reinit: bool = option(False, help="Start a new run in a process that has one already.")
    sync_tensorboard: bool = option(False, help="Copy what is written to TensorBoard as well.")
    save_code: bool = option(False, help="Keep a copy of the source with the run.")
    name: str = option("", help="Name of the run; empty is derived from results_dir and the time.")
    run_id: str = option("", help="Identity of a run to continue.")
