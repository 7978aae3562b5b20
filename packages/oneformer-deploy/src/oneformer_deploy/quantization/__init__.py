"""Quantize ONNX models: 8-bit weights and INT8 layers."""
