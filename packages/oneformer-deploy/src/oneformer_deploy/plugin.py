"""What oneformer-deploy adds to `oneformer`."""

from __future__ import annotations

from oneformer_spec.hooks import Command, Quantizer, Runtime, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the commands."""
    return [
        Command("inference", "oneformer_deploy.inference:run", "Segment a folder of images."),
        Command("gen_trt_engine", "oneformer_deploy.gen_trt_engine:run", "Build a TensorRT engine from an ONNX file."),
        Command(
            "quantize",
            "oneformer_deploy.quantization.command:run",
            "Make a model smaller and faster: 8-bit weights, INT8 layers.",
        ),
        Command("info", "oneformer_deploy.info_app:app", "Show a model file's labels, sizes and thresholds.", "app"),
    ]


@hookimpl
def oneformer_quantizers() -> list[Quantizer]:
    """Declare the library that quantizes ONNX files."""
    return [Quantizer("onnxruntime", "oneformer_deploy.quantization.static:run")]


@hookimpl
def oneformer_runtimes() -> list[Runtime]:
    """Declare the runtimes of exported models."""
    suffixes = (".onnx", ".etlt")
    return [
        Runtime("onnxruntime", "oneformer_deploy.runtimes.onnxruntime_runtime:open", suffixes),
        Runtime("onnxruntime-tensorrt", "oneformer_deploy.runtimes.onnxruntime_runtime:open_tensorrt", (), suffixes),
        Runtime("openvino", "oneformer_deploy.runtimes.openvino_runtime:open", (), suffixes, ("fp32", "bf16")),
        Runtime("tensorrt", "oneformer_deploy.runtimes.tensorrt_runtime:open", (".engine",)),
    ]
