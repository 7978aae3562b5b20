"""Scores and loss on the validation images while training."""
