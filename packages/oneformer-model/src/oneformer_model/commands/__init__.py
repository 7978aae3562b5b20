"""The commands `convert`, `model-info` and `quantize`."""
