"""The command `train`: from a spec to checkpoints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from oneformer_data.datasets import allowed_tasks
from oneformer_data.opening.loading import open_split, read_labels
from oneformer_data.sample import Sample
from oneformer_data.training.pipeline import for_validation, plugin_tokens
from oneformer_data.training.pipeline import from_spec as open_pipeline
from oneformer_model import OneFormer
from oneformer_model.build import build
from oneformer_model.weights import pretrained
from oneformer_spec.commands.exit import note
from oneformer_spec.commands.run_folder import RunFolder, results_folder
from oneformer_spec.files.atomic import remove_leftovers
from oneformer_spec.files.encryption import check_installed
from oneformer_spec.labels import Labels
from oneformer_spec.processes.world import World
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_train.batches.loaders import course_of, training_loader, validation_loader
from oneformer_train.checkpoints.position import Course
from oneformer_train.checkpoints.resume import Start, find_start
from oneformer_train.checkpoints.retention import Retention, check_names
from oneformer_train.diagnosis.dry_run import Rehearsal, shortened, temporary_folder
from oneformer_train.diagnosis.out_of_memory import explaining_memory
from oneformer_train.loss.from_spec import criterion
from oneformer_train.module import TrainingModule
from oneformer_train.monitoring.curves import Curves
from oneformer_train.monitoring.loggers import METRICS, TENSORBOARD, Journal, MetricsTable, TensorBoard
from oneformer_train.monitoring.progress import Progress
from oneformer_train.monitoring.sample_pictures import Gallery
from oneformer_train.monitoring.summary import summary
from oneformer_train.monitoring.weights_and_biases import open_report
from oneformer_train.optimisation.freezing import freeze, freezing
from oneformer_train.processes import group
from oneformer_train.processes.joining import Guard, run_everywhere
from oneformer_train.trainer import make_trainer, quieten_lightning
from oneformer_train.validation.scores import Validation
from oneformer_train.validation.validation_loss import validation_loss_loader


def run(spec: Spec) -> None:
    """Train, or continue training, as the spec says; a finished run is left as it is.

    Raises:
        SpecError: The spec asks for something that is not there.
        DataError: Annotations are wrong or files are missing.
        CheckpointError: The checkpoint to continue from, or the weights to start from, cannot be read or do not fit.
        NonFiniteError: A loss or a gradient is NaN or infinite.
        MemoryExhaustedError: Memory ran out.
    """
    run_everywhere(spec, _run_here)


def _run_here(spec: Spec, world: World, guard: Guard) -> None:
    quieten_lightning()
    _note_busy_loaders(spec)
    if spec.train.is_dry_run:
        with temporary_folder(spec) if world.is_first else nullcontext() as own:
            folder = group.from_first(lambda: own)
            assert folder is not None
            print(_train(shortened(spec, folder), None, world, guard, rehearsed=spec))
        return
    start = group.from_first(lambda: _start(spec))
    if start is not None and start.epochs_done >= spec.train.num_epochs:
        print(f"{start.path}: all {start.epochs_done} epochs are trained; raise train.num_epochs to go on")
        return
    print(_train(spec, start, world, guard))


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


def _train(spec: Spec, start: Start | None, world: World, guard: Guard, *, rehearsed: Spec | None = None) -> str:
    """Run the training that a spec describes and return its summary, or the report on the run that it rehearses."""
    pl.seed_everything(spec.train.seed, verbose=False)
    labels = read_labels(spec)
    pipeline = open_pipeline(spec)
    samples = open_split(spec.dataset, "val", labels) if spec.dataset.val.annotations else None
    manifest = Manifest.from_spec(
        spec,
        labels,
        {name: version(name) for name in ("oneformer-model", "oneformer-train")},
        plugin_tokens=plugin_tokens(spec),
    )
    course = course_of(spec, len(pipeline), world)
    validation = Validation(manifest, allowed_tasks(samples), spec.evaluate.evaluators) if samples is not None else None
    check_names(spec.train.checkpointer, validation.names if validation is not None else ())
    module = _module(spec, course, validation)
    if start is None:
        for line in load_pretrained(module.model, spec):
            note(line)
    validation_loaders = _validation_loaders(spec, samples, labels, world) if samples is not None else None
    loader = training_loader(pipeline, spec, course, world)
    rehearsal = None
    if rehearsed is not None:
        rehearsal = Rehearsal(
            rehearsed,
            results_folder(spec, "train"),
            loader,
            total_batches=rehearsed.train.num_epochs * course_of(rehearsed, len(pipeline), world).batches_per_epoch,
            num_validation_pictures=len(samples) if samples is not None else 0,
        )
    folder = RunFolder.open(spec, "train") if world.is_first else RunFolder(results_folder(spec, "train"))
    with folder if world.is_first else nullcontext(), guard(), explaining_memory(spec):
        gallery = Gallery(samples, manifest) if samples else None
        watching: list[pl.Callback] = [
            *([rehearsal] if rehearsal is not None else []),
            Progress(folder, loader, total_batches=spec.train.num_epochs * course.batches_per_epoch),
            Curves(lambda last_step: open_journals(spec, folder.path, last_step), loader, gallery),
        ]
        trainer = make_trainer(spec, folder.path, manifest, course, world, watching, rehearses=rehearsal is not None)
        if start is not None:
            note(f"continuing from {start.path}: {start.epochs_done} epochs, {start.batches_done} batches are done")
        trainer.fit(module, loader, validation_loaders, ckpt_path=start.path if start is not None else None)
    return group.from_first(lambda: summary(spec, folder.path) if rehearsal is None else rehearsal.report())


def open_journals(spec: Spec, folder: Path, last_step: int) -> list[Journal]:
    """Open everything that the figures of a run are written to, after `last_step` optimiser steps."""
    report = open_report(spec, folder, continues=last_step > 0)  # first: it may listen to what TensorBoard gets
    return [
        MetricsTable(folder / METRICS, last_step=last_step),
        TensorBoard(folder / TENSORBOARD, last_step=last_step),
        *([report] if report is not None else []),
    ]


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


def _validation_loaders(spec: Spec, samples: Sequence[Sample], labels: Labels, world: World) -> list[DataLoader[Any]]:
    """Return the loader of pictures to score and that of examples to compute the loss on."""
    examples = for_validation(spec, samples, labels)
    return [validation_loader(samples, spec.dataset, world), validation_loss_loader(examples, spec, world)]


def _module(spec: Spec, course: Course, validation: Validation | None) -> TrainingModule:
    model: OneFormer = build(
        spec.model,
        training=True,
        activation_checkpoint=spec.train.activation_checkpoint,
        task_length=spec.dataset.task_seq_len,
    )
    if spec.train.freeze:
        note(freezing(model, freeze(model, spec.train.freeze)))
    return TrainingModule(
        model,
        criterion(spec),
        spec.train,
        course=course,
        loss_factor=spec.model.sem_seg_head.loss_weight,
        validation=validation,
    )


def _note_busy_loaders(spec: Spec) -> None:
    wanted, cores = spec.dataset.train.num_workers * spec.train.num_gpus, os.cpu_count() or 1
    if wanted > cores:
        note(f"dataset.train.num_workers: {wanted} loader processes share {cores} cores; fewer may be faster")
