"""Runtimes of exported models: onnxruntime, OpenVINO, TensorRT."""
