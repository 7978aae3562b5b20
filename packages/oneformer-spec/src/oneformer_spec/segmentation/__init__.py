"""From a picture to its segments: input frame, network outputs, decoding, manifest, model files."""
