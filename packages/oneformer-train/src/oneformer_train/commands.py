"""The command `train`: from a spec to checkpoints."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import nullcontext
from importlib.metadata import version

import pytorch_lightning as pl
import torch

from oneformer_data.loading import open_split, read_labels
from oneformer_data.pipeline import from_spec as open_pipeline
from oneformer_data.samples import allowed_tasks
from oneformer_model import OneFormer, pretrained
from oneformer_model.build import build
from oneformer_spec.entry import note
from oneformer_spec.manifest import Manifest
from oneformer_spec.run_folder import RunFolder, results_folder
from oneformer_spec.schema import Spec
from oneformer_train import ranks
from oneformer_train.checkpoint_io import CheckpointFiles
from oneformer_train.checkpoints import Checkpoints
from oneformer_train.course import Course
from oneformer_train.distributed import Guard, cluster, run_everywhere, trainer_settings
from oneformer_train.loaders import course_of, training_loader, validation_loader
from oneformer_train.losses import Criterion, LossWeights, PointOptions
from oneformer_train.module import TrainingModule
from oneformer_train.progress import Progress
from oneformer_train.resume import LATEST, find_start
from oneformer_train.validation import Validation
from oneformer_train.world import World

_PRECISION = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def run(spec: Spec) -> None:
    """Train, or continue training, as the spec says; a finished run is left as it is.

    Raises:
        SpecError: The spec asks for something that is not there.
        DataError: Annotations are wrong or files are missing.
        CheckpointError: The checkpoint to continue from, or the weights to start from, cannot be read or do not fit.
    """
    run_everywhere(spec, _run_here)


def _run_here(spec: Spec, world: World, guard: Guard) -> None:
    _quieten_lightning()
    _note_busy_loaders(spec)
    resumed = spec.train.resume_training_checkpoint_path
    start = ranks.from_first(lambda: find_start(results_folder(spec, "train"), resumed))
    if start is not None and start.epochs_done >= spec.train.num_epochs:
        print(f"{start.path}: all {start.epochs_done} epochs are trained; raise train.num_epochs to go on")
        return
    if spec.wandb.enable:
        note("wandb.enable: reporting to Weights & Biases is not available yet; this run is not reported")
    pl.seed_everything(spec.train.seed, verbose=False)
    labels = read_labels(spec)
    pipeline = open_pipeline(spec)
    samples = open_split(spec.dataset, "val", labels) if spec.dataset.val.annotations else None
    manifest = Manifest.from_spec(
        spec, labels, {name: version(name) for name in ("oneformer-model", "oneformer-train")}
    )
    course = course_of(spec, len(pipeline), world)
    validation = Validation(manifest, allowed_tasks(samples)) if samples is not None else None
    module = _module(spec, course, validation)
    if start is None:
        for line in load_pretrained(module.model, spec):
            note(line)
    folder = RunFolder.open(spec, "train") if world.is_first else RunFolder(results_folder(spec, "train"))
    with folder if world.is_first else nullcontext(), guard():
        trainer = _trainer(spec, folder, manifest, course, world)
        if start is not None:
            note(f"continuing from {start.path}: {start.epochs_done} epochs, {start.batches_done} batches are done")
        trainer.fit(
            module,
            training_loader(pipeline, spec, course, world),
            validation_loader(samples, spec.dataset, world) if samples is not None else None,
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


def _module(spec: Spec, course: Course, validation: Validation | None) -> TrainingModule:
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
        course=course,
        loss_factor=spec.model.sem_seg_head.loss_weight,
        validation=validation,
    )


def _trainer(spec: Spec, folder: RunFolder, manifest: Manifest, course: Course, world: World) -> pl.Trainer:
    train = spec.train
    torch.backends.cudnn.deterministic = train.cudnn.deterministic
    progress = Progress(
        folder, total_batches=train.num_epochs * course.batches_per_epoch, batch_size=course.samples_per_batch
    )
    return pl.Trainer(
        **trainer_settings(train, world),
        precision=_PRECISION[train.precision],  # type: ignore[arg-type]  # a literal of Lightning's
        max_epochs=train.num_epochs,
        accumulate_grad_batches=train.accumulate_grad_batches,
        check_val_every_n_epoch=train.validation_interval,
        num_sanity_val_steps=0,
        benchmark=train.cudnn.benchmark,
        callbacks=[progress, Checkpoints(folder.path, train)],
        plugins=[CheckpointFiles(manifest), cluster(world)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder.path,
    )


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
        ".*LeafSpec.*",  # Lightning 2.6 with torch 2.14
        ".*sync_dist=True.*",  # scores are those of all processes already
    ):
        warnings.filterwarnings("ignore", message=message)


def _note_busy_loaders(spec: Spec) -> None:
    wanted, cores = spec.dataset.train.num_workers * spec.train.num_gpus, os.cpu_count() or 1
    if wanted > cores:
        note(f"dataset.train.num_workers: {wanted} loader processes share {cores} cores; fewer may be faster")


def _summarise(folder: RunFolder, trainer: pl.Trainer) -> None:
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    print("  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    latest, spec = folder.path / LATEST, folder.path / "experiment.yaml"
    print(f"trained: {latest}")
    print(f"next: oneformer evaluate -e {spec} evaluate.checkpoint={latest}")
