"""The command `train`: from a spec to checkpoints."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from oneformer_data.loading import open_split, read_labels
from oneformer_data.pipeline import for_validation
from oneformer_data.pipeline import from_spec as open_pipeline
from oneformer_data.sample import Sample
from oneformer_data.samples import allowed_tasks
from oneformer_model import OneFormer, pretrained
from oneformer_model.build import build
from oneformer_spec.dump import dump
from oneformer_spec.entry import note
from oneformer_spec.errors import SpecError
from oneformer_spec.labels import Labels
from oneformer_spec.manifest import Manifest
from oneformer_spec.run_folder import RunFolder, results_folder
from oneformer_spec.schema import Spec, TrainSection
from oneformer_train.auto_reduce import AutoReduce
from oneformer_train.checkpoint_io import CheckpointFiles
from oneformer_train.checkpoints import Checkpoints
from oneformer_train.freeze import freeze, summary
from oneformer_train.intervals import validation_times
from oneformer_train.loaders import batches_per_epoch, training_loader, validation_loader
from oneformer_train.long_log import LongLog
from oneformer_train.losses import Criterion, LossWeights, PointOptions
from oneformer_train.memory import explaining_memory
from oneformer_train.module import TrainingModule
from oneformer_train.precision import lightning_precision
from oneformer_train.progress import Progress
from oneformer_train.reproduction import Reproduction
from oneformer_train.resume import LATEST, find_start
from oneformer_train.validation import Validation
from oneformer_train.validation_loss import validation_loss_loader


def run(spec: Spec) -> None:
    """Train, or continue training, as the spec says; a finished run is left as it is.

    Raises:
        SpecError: The spec asks for something that is not there.
        DataError: Annotations are wrong or files are missing.
        CheckpointError: The checkpoint to continue from, or the weights to start from, cannot be read or do not fit.
        NonFiniteError: A loss or a gradient is NaN or infinite.
        MemoryExhaustedError: Memory ran out.
    """
    _quieten_lightning()
    _note_busy_loaders(spec)
    start = find_start(results_folder(spec, "train"), spec.train.resume_training_checkpoint_path)
    if start is not None and start.epochs_done >= spec.train.num_epochs:
        print(f"{start.path}: all {start.epochs_done} epochs are trained; raise train.num_epochs to go on")
        return
    devices = _devices(spec.train)
    if spec.wandb.enable:
        note("wandb.enable: reporting to Weights & Biases is not available yet; this run is not reported")
    pl.seed_everything(spec.train.seed, verbose=False)
    labels = read_labels(spec)
    pipeline = open_pipeline(spec)
    samples = open_split(spec.dataset, "val", labels) if spec.dataset.val.annotations else None
    manifest = Manifest.from_spec(
        spec, labels, {name: version(name) for name in ("oneformer-model", "oneformer-train")}
    )
    num_batches = batches_per_epoch(len(pipeline), spec.dataset.train.batch_size, spec.train)
    validation = Validation(manifest, allowed_tasks(samples)) if samples is not None else None
    module = _module(spec, num_batches, validation)
    if start is None:
        for line in load_pretrained(module.model, spec):
            note(line)
    validation_loaders = _validation_loaders(spec, samples, labels) if samples is not None else None
    with RunFolder.open(spec, "train") as folder, explaining_memory(spec):
        trainer = _trainer(spec, folder, manifest, num_batches, devices)
        if start is not None:
            note(f"continuing from {start.path}: {start.epochs_done} epochs, {start.batches_done} batches are done")
        trainer.fit(
            module,
            training_loader(pipeline, spec, lambda: module.batches_done),
            validation_loaders,
            ckpt_path=start.path if start is not None else None,
        )
    _summarise(folder, trainer)


def criterion(spec: Spec) -> Criterion:
    """Return the criterion that `model.one_former.*` describes."""
    head = spec.model.one_former
    return Criterion(
        num_classes=spec.model.sem_seg_head.num_classes,
        weights=LossWeights(head.class_weight, head.mask_weight, head.dice_weight, head.contrastive_weight),
        points=PointOptions(head.train_num_points, head.oversample_ratio, head.importance_sample_ratio),
        no_object_weight=head.no_object_weight,
        deep_supervision=head.deep_supervision,
    )


def load_pretrained(model: OneFormer, spec: Spec) -> list[str]:
    """Copy the weights that the spec lets a fresh run start from; return what is worth a note.

    Raises:
        CheckpointError: They cannot be read or do not fit the spec's network.
    """
    whole, backbone = spec.train.pretrained_model_path, spec.model.backbone.pretrained_weights
    if whole is None:
        return pretrained.load_backbone(model.backbone, backbone)
    notes = pretrained.start_from(model, whole, reinit_heads=spec.train.reinit_heads)
    if backbone is not None:
        notes.append("model.backbone.pretrained_weights is not read: train.pretrained_model_path brings a backbone")
    return notes


def _validation_loaders(spec: Spec, samples: Sequence[Sample], labels: Labels) -> list[DataLoader[Any]]:
    """Return the loader of pictures to score and that of examples to compute the loss on."""
    examples = for_validation(spec, samples, labels)
    return [validation_loader(samples, spec.dataset), validation_loss_loader(examples, spec)]


def _module(spec: Spec, num_batches: int, validation: Validation | None) -> TrainingModule:
    model: OneFormer = build(
        spec.model,
        training=True,
        activation_checkpoint=spec.train.activation_checkpoint,
        task_length=spec.dataset.task_seq_len,
    )
    if spec.train.freeze:
        note(summary(model, freeze(model, spec.train.freeze)))
    return TrainingModule(
        model,
        criterion(spec),
        spec.train,
        loss_factor=spec.model.sem_seg_head.loss_weight,
        steps_per_epoch=num_batches // spec.train.accumulate_grad_batches,
        validation=validation,
    )


def _trainer(
    spec: Spec, folder: RunFolder, manifest: Manifest, num_batches: int, devices: Mapping[str, Any]
) -> pl.Trainer:
    train = spec.train
    torch.backends.cudnn.deterministic = train.cudnn.deterministic
    progress = Progress(folder, total_batches=train.num_epochs * num_batches, batch_size=spec.dataset.train.batch_size)
    times = validation_times(train, num_batches)
    callbacks = [progress, Reproduction(folder.path, dump(spec))]
    if train.optim.lr_scheduler == "AutoReduce":
        callbacks.append(AutoReduce(train.optim, times, num_batches))
    if train.verbose:
        callbacks.append(LongLog())
    callbacks.append(Checkpoints(folder.path, train))  # last, to save what the others have seen of a batch
    return pl.Trainer(
        **devices,
        **times,
        precision=lightning_precision(train.precision, on_gpu=devices["accelerator"] == "gpu"),
        max_epochs=train.num_epochs,
        accumulate_grad_batches=train.accumulate_grad_batches,
        num_sanity_val_steps=0,
        benchmark=train.cudnn.benchmark,
        callbacks=callbacks,
        plugins=[CheckpointFiles(manifest)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder.path,
    )


def _devices(train: TrainSection) -> dict[str, Any]:
    """Return Lightning's settings for the devices of `train.gpu_ids`; the default, device 0, is the CPU without GPUs.

    Raises:
        SpecError: A device is not there.
    """
    count = torch.cuda.device_count()
    for number in train.gpu_ids:
        if number >= max(count, 1):
            raise SpecError(f"train.gpu_ids: {number}: torch sees {count} GPUs here")
    return {"accelerator": "gpu", "devices": list(train.gpu_ids)} if count else {"accelerator": "cpu", "devices": 1}


def _quieten_lightning() -> None:
    """Keep Lightning's advertisements and hints about choices we made on purpose off the terminal."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*worker processes in total.*",  # a note of ours says it shorter
        ".*dataloader is not resumable.*",
        ".*in eval mode at the start of training.*",
        ".*smaller than the logging interval.*",
        ".*lr_scheduler.step.* before .*optimizer.step.*",  # fp16: the scaler skipped the first step
        ".*LeafSpec.*",  # Lightning 2.6 with torch 2.14
    ):
        warnings.filterwarnings("ignore", message=message)


def _note_busy_loaders(spec: Spec) -> None:
    wanted, cores = spec.dataset.train.num_workers, os.cpu_count() or 1
    if wanted > cores:
        note(f"dataset.train.num_workers: {wanted} loader processes share {cores} cores; fewer may be faster")


def _summarise(folder: RunFolder, trainer: pl.Trainer) -> None:
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    print("  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    latest, spec = folder.path / LATEST, folder.path / "experiment.yaml"
    print(f"trained: {latest}")
    print(f"next: oneformer evaluate -e {spec} evaluate.checkpoint={latest}")
