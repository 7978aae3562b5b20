"""All Lightning callbacks of a run, in the order in which they act."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ProgressBar

from oneformer_data.sample import Sample
from oneformer_spec.commands.run_folder import RunFolder
from oneformer_spec.documents.resolved import dump
from oneformer_spec.errors import PluginError
from oneformer_spec.loading.load import to_dict
from oneformer_spec.plugins.entries import part_name
from oneformer_spec.plugins.option import Entry
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_train.batches.loaders import TimedLoader
from oneformer_train.checkpoints.saving import Checkpoints
from oneformer_train.diagnosis.dry_run import Rehearsal
from oneformer_train.diagnosis.reproduction import Reproduction
from oneformer_train.monitoring.curves import Curves
from oneformer_train.monitoring.progress import Progress
from oneformer_train.monitoring.sample_pictures import SamplePictures
from oneformer_train.monitoring.step_log import StepLog
from oneformer_train.optimisation.reduce_on_plateau import AutoReduce
from oneformer_train.plugin_parts import PluginParts


def make_callbacks(
    spec: Spec,
    run: RunFolder,
    loader: TimedLoader,
    manifest: Manifest,
    *,
    samples: Sequence[Sample] | None,
    total_batches: int,
    rehearsal: Rehearsal | None,
    parts: PluginParts,
) -> list[pl.Callback]:
    """Return the callbacks of a run; those of plugins follow ours, and checkpoints come last, to save what all hold.

    Args:
        spec: Of the run.
        run: The folder that it writes to.
        loader: Of the training batches.
        manifest: What the sample pictures are predicted and drawn with.
        samples: The validation pictures, None without any.
        total_batches: Of all epochs.
        rehearsal: Measures a dry run.
        parts: Makes those of plugins.

    Raises:
        SpecError: A callback is not installed.
        PluginError: A callback cannot be made.
    """
    settings = {name: value for name, value in to_dict(spec).items() if name != "encryption_key"}
    callbacks: list[pl.Callback] = [rehearsal] if rehearsal is not None else []
    callbacks.append(Progress(run, loader, total_batches=total_batches))
    callbacks.append(Curves(loader, SamplePictures(samples, manifest) if samples else None, settings))
    callbacks.append(Reproduction(run.path, dump(spec, "train")))
    if spec.train.optim.lr_scheduler == "AutoReduce":
        callbacks.append(AutoReduce(spec.train.optim))
    if spec.train.verbose:
        callbacks.append(StepLog())
    callbacks += [_of_plugin(entry, parts) for entry in spec.train.callbacks]
    callbacks.append(Checkpoints(run.path, spec.train))
    return callbacks


def _of_plugin(entry: Entry, parts: PluginParts) -> pl.Callback:
    made: pl.Callback = parts.make("callback", entry, pl.Callback)
    for kind, ours in ((Checkpoint, "train.checkpointer.* says which checkpoints are written"), (ProgressBar, "")):
        if isinstance(made, kind):
            reason = ours or "a run has one already"
            raise PluginError(f"{part_name('callback', entry.type)} is a {kind.__name__} of Lightning's: {reason}")
    return made
