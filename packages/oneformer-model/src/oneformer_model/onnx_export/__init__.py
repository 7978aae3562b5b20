"""From a network to an ONNX file that was compared with it."""
