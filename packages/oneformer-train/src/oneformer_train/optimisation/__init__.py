"""Optimiser, learning rate schedule, frozen parts."""
