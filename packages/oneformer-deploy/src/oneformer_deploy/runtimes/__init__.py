"""Runtimes for exported models: onnxruntime, OpenVINO and TensorRT."""
