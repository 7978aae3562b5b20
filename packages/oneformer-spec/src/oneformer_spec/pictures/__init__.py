"""Overlays: segments drawn over a picture, with captions."""
