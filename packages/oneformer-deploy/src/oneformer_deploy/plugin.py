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
    return [
        Runtime("onnxruntime", "oneformer_deploy.onnx:open", (".onnx",)),
        Runtime("onnxruntime-tensorrt", "oneformer_deploy.onnx:open_tensorrt", (), (".onnx",)),
        Runtime("openvino", "oneformer_deploy.openvino:open", (), (".onnx",), ("fp32", "bf16")),
    ]
