"""Smaller models: 8-bit weights and INT8 layers."""
