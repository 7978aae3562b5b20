"""The command `train`: from a spec to checkpoints."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pytorch_lightning as pl
import torch

from oneformer_data.loading import open_split, read_labels
from oneformer_data.pipeline import from_spec as open_pipeline
from oneformer_data.samples import allowed_tasks
from oneformer_model import OneFormer, pretrained
from oneformer_model.build import build
from oneformer_spec.atomic import remove_leftovers
from oneformer_spec.encryption import check_installed
from oneformer_spec.entry import note
from oneformer_spec.errors import SpecError
from oneformer_spec.manifest import Manifest
from oneformer_spec.run_folder import RunFolder, results_folder
from oneformer_spec.schema import Spec, TrainSection
from oneformer_train.best_names import check_names
from oneformer_train.checkpoint_io import CheckpointFiles
from oneformer_train.checkpoints import Checkpoints
from oneformer_train.loaders import batches_per_epoch, training_loader, validation_loader
from oneformer_train.losses import Criterion, LossWeights, PointOptions
from oneformer_train.module import TrainingModule
from oneformer_train.progress import Progress
from oneformer_train.resume import LATEST, Start, find_start
from oneformer_train.retention import Retention
from oneformer_train.validation import Validation

_PRECISION = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def run(spec: Spec) -> None:
    """Train, or continue training, as the spec says; a finished run is left as it is.

    Raises:
        SpecError: The spec asks for something that is not there.
        DataError: Annotations are wrong or files are missing.
        CheckpointError: The checkpoint to continue from, or the weights to start from, cannot be read or do not fit.
    """
    _quieten_lightning()
    _note_busy_loaders(spec)
    start = _start(spec)
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
    check_names(spec.train.checkpointer, validation.names if validation is not None else ())
    module = _module(spec, num_batches, validation)
    if start is None:
        for line in load_pretrained(module.model, spec):
            note(line)
    with RunFolder.open(spec, "train") as folder:
        trainer = _trainer(spec, folder, manifest, num_batches, devices)
        if start is not None:
            note(f"continuing from {start.path}: {start.epochs_done} epochs, {start.batches_done} batches are done")
        trainer.fit(
            module,
            training_loader(pipeline, spec, lambda: module.batches_done),
            validation_loader(samples, spec.dataset) if samples is not None else None,
            ckpt_path=start.path if start is not None else None,
        )
    _summarise(folder, trainer)


def _start(spec: Spec) -> Start | None:
    """Find where the run starts, and complete what a killed run had left to do about its files."""
    if spec.encryption_key:
        check_installed()
    folder, options = results_folder(spec, "train"), spec.train.checkpointer
    retention = Retention(folder, options)
    start = find_start(
        folder,
        spec.train.resume_training_checkpoint_path,
        best=retention.existing_best(),
        key=spec.encryption_key,
    )
    for written in {folder, retention.best_folder}:
        remove_leftovers(written)
    if start is None:
        retention.check_unused()
    else:
        retention.load(start.kept, start.path)
        retention.settle(start.path, again=True)
    return start


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
        return pretrained.load_backbone(model.backbone, backbone, spec.encryption_key)
    notes = pretrained.start_from(model, whole, reinit_heads=spec.train.reinit_heads, key=spec.encryption_key)
    if backbone is not None:
        notes.append("model.backbone.pretrained_weights is not read: train.pretrained_model_path brings a backbone")
    return notes


def _module(spec: Spec, num_batches: int, validation: Validation | None) -> TrainingModule:
    model: OneFormer = build(
        spec.model,
        training=True,
        activation_checkpoint=spec.train.activation_checkpoint,
        task_length=spec.dataset.task_seq_len,
    )
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
    return pl.Trainer(
        **devices,
        precision=_PRECISION[train.precision],  # type: ignore[arg-type]  # a literal of Lightning's
        max_epochs=train.num_epochs,
        accumulate_grad_batches=train.accumulate_grad_batches,
        check_val_every_n_epoch=train.validation_interval,
        num_sanity_val_steps=0,
        benchmark=train.cudnn.benchmark,
        callbacks=[progress, Checkpoints(folder.path, train)],
        plugins=[CheckpointFiles(manifest, spec.encryption_key)],
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
        ".*no `val_dataloader`.*",
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
