"""What oneformer-train adds to `oneformer`."""

from __future__ import annotations

from oneformer_spec.hooks import Command, Logger, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the verb."""
    return [Command("train", "oneformer_train.command:run", "Train a model, or continue where a run stopped.")]


@hookimpl
def oneformer_loggers() -> list[Logger]:
    """Declare the loggers that write into the folder of the run."""
    return [
        Logger("csv", "oneformer_train.monitoring.metrics_table:csv_logger"),
        Logger("tensorboard", "oneformer_train.monitoring.event_files:tensorboard_logger"),
    ]
