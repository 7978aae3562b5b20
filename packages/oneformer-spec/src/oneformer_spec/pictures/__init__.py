"""Draw overlays: an image with its segments and captions."""
