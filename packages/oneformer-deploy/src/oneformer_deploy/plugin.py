"""What oneformer-deploy adds to `oneformer`."""

from __future__ import annotations

from oneformer_spec.hooks import Command, Runtime, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the verbs."""
    return [Command("inference", "oneformer_deploy.commands:run", "Segment a folder of images.")]


@hookimpl
def oneformer_runtimes() -> list[Runtime]:
    """Declare the runtimes of exported models."""
    suffixes = (".onnx", ".etlt")
    return [
        Runtime("onnxruntime", "oneformer_deploy.onnx:open", suffixes),
        Runtime("onnxruntime-tensorrt", "oneformer_deploy.onnx:open_tensorrt", (), suffixes),
        Runtime("openvino", "oneformer_deploy.openvino:open", (), suffixes, ("fp32", "bf16")),
    ]
