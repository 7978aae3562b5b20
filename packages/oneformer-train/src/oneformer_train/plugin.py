"""What oneformer-train adds to `oneformer`."""

from __future__ import annotations

from oneformer_spec.hooks import Command, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the verb."""
    return [Command("train", "oneformer_train.command:run", "Train a model, or continue where a run stopped.")]
