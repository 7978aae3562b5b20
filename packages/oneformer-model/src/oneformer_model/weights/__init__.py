"""Weights in and out: checkpoints, foreign files, conversion, pretrained starts."""
