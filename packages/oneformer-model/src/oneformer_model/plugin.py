"""What oneformer-model adds to `oneformer`; the built-in backbones are declared by oneformer-spec."""

from __future__ import annotations

from oneformer_spec.hooks import Command, Flag, Runtime, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the verbs."""
    force = Flag("force", "Replace a file that is there already.")
    return [
        Command("export", "oneformer_model.export:run", "Write a checkpoint as an ONNX file.", flags=(force,)),
        Command("convert", "oneformer_model.convert_app:app", "Write weights in another form.", kind="app"),
    ]


@hookimpl
def oneformer_runtimes() -> list[Runtime]:
    """Declare the runtime of checkpoints."""
    return [Runtime("torch", "oneformer_model.runtime:open", (".pth",))]
