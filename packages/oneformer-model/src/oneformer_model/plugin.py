"""What oneformer-model adds to `oneformer`; the built-in backbones are declared by oneformer-spec."""

from __future__ import annotations

from oneformer_spec.hooks import Command, Flag, Quantizer, Runtime, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the verbs."""
    force = Flag("force", "Replace a file that is there already.")
    json = Flag("json", "Print JSON instead of a table.")
    return [
        Command(
            "export", "oneformer_model.onnx_export.export:run", "Write a checkpoint as an ONNX file.", flags=(force,)
        ),
        Command("convert", "oneformer_model.commands.convert:app", "Write weights in another form.", kind="app"),
        Command(
            "model-info", "oneformer_model.commands.model_info:run", "Tell what a spec's network costs.", flags=(json,)
        ),
    ]


@hookimpl
def oneformer_quantizers() -> list[Quantizer]:
    """Declare the library that quantizes checkpoints."""
    return [Quantizer("torchao", "oneformer_model.commands.quantize:run")]


@hookimpl
def oneformer_runtimes() -> list[Runtime]:
    """Declare the runtime of checkpoints."""
    return [Runtime("torch", "oneformer_model.runtime:open", (".pth",), precisions=("fp32", "bf16"))]
