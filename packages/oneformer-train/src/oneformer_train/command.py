"""The command `train`: from a spec to checkpoints."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.metadata import version

import pytorch_lightning as pl

from oneformer_data.datasets import allowed_tasks
from oneformer_data.opening.loading import open_split, read_labels
from oneformer_data.training.pipeline import for_validation, plugin_tokens
from oneformer_data.training.pipeline import from_spec as open_pipeline
from oneformer_spec.commands.exit import note
from oneformer_spec.commands.run_folder import RunFolder, results_folder
from oneformer_spec.files.atomic import remove_leftovers
from oneformer_spec.files.encryption import check_installed
from oneformer_spec.processes.world import World
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_train.batches.loaders import course_of, note_busy_loaders, training_loader, validation_loader
from oneformer_train.callbacks import make_callbacks
from oneformer_train.checkpoints.resume import Start, find_start
from oneformer_train.checkpoints.retention import Retention, check_names
from oneformer_train.diagnosis.dry_run import Rehearsal, shortened, temporary_folder
from oneformer_train.diagnosis.out_of_memory import explaining_memory
from oneformer_train.loss.from_spec import criterion
from oneformer_train.module import TrainingModule
from oneformer_train.monitoring.loggers import make_loggers
from oneformer_train.monitoring.summary import summary
from oneformer_train.network import build_network, load_pretrained
from oneformer_train.plugin_parts import PluginParts
from oneformer_train.processes import group
from oneformer_train.processes.joining import Guard, take_part
from oneformer_train.processes.launch import launch
from oneformer_train.processes.places import check_devices, joined_world
from oneformer_train.trainer import make_trainer, silence_lightning
from oneformer_train.validation.scores import Validation
from oneformer_train.validation.validation_loss import validation_loss_loader


def run(spec: Spec) -> None:
    """Train, or continue training, in every process that the spec asks for; a finished run is left as it is.

    The processes are those that torchrun or srun started, this one among them; else they are started here.

    Raises:
        SpecError: The spec asks for something that is not there.
        DataError: Annotations are wrong or files are missing.
        CheckpointError: The checkpoint to continue from, or the weights to start from, cannot be read or do not fit.
        NonFiniteError: A loss or a gradient is NaN or infinite.
        MemoryExhaustedError: Memory ran out.
    """
    check_devices(spec.train)
    if joined_world(spec.train) is None and spec.train.num_gpus * spec.train.num_nodes > 1:
        launch(spec)
    else:
        run_here(spec)


def run_here(spec: Spec) -> None:
    """Train as this process's part of the run; errors as in `run`."""
    take_part(spec, joined_world(spec.train), _run_in)


def _run_in(world: World, guard: Guard, spec: Spec) -> None:
    silence_lightning()
    note_busy_loaders(spec)
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
    """Find where the run starts, and complete the changes to its files that a killed run had planned."""
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
    versions = {name: version(name) for name in ("oneformer-model", "oneformer-train")}
    manifest = Manifest.from_spec(spec, labels, versions, plugin_tokens=plugin_tokens(spec))
    course = course_of(spec, len(pipeline), world)
    validation = Validation(manifest, allowed_tasks(samples), spec.evaluate.evaluators) if samples is not None else None
    check_names(spec.train.checkpointer, validation.names if validation is not None else ())
    model = build_network(spec)
    if start is None:
        load_pretrained(model, spec)
    module = TrainingModule(
        model,
        criterion(spec),
        spec.train,
        course=course,
        loss_factor=spec.model.sem_seg_head.loss_weight,
        validation=validation,
    )
    loader = training_loader(pipeline, spec, course, world)
    validation_loaders = None
    if samples is not None:  # pictures to score, and examples to compute the loss on
        examples = for_validation(spec, samples, labels)
        validation_loaders = [
            validation_loader(samples, spec.dataset, world),
            validation_loss_loader(examples, spec, world),
        ]
    rehearsal = None
    if rehearsed is not None:
        rehearsal = Rehearsal(rehearsed, spec, loader, course_of(rehearsed, len(pipeline), world), samples)
    folder = RunFolder.open(spec, "train") if world.is_first else RunFolder(results_folder(spec, "train"))
    parts = PluginParts(spec, folder.path)
    with folder if world.is_first else nullcontext(), guard(), explaining_memory(spec), parts.named_in_errors():
        total = spec.train.num_epochs * course.batches_per_epoch
        callbacks = make_callbacks(
            spec, folder, loader, manifest, samples=samples, total_batches=total, rehearsal=rehearsal, parts=parts
        )
        trainer = make_trainer(spec, folder.path, manifest, course, world, callbacks, make_loggers(spec, parts))
        if start is not None:
            note(f"continuing from {start.path}: {start.epochs_done} epochs, {start.batches_done} batches are done")
        trainer.fit(module, loader, validation_loaders, ckpt_path=start.path if start is not None else None)
    return group.from_first(lambda: summary(spec, folder.path) if rehearsal is None else rehearsal.report())
