"""From an annotated image to a training example: augmentation, targets, texts."""
