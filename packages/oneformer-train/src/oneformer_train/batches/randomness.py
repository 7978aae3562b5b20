"""Seeds of what is drawn while training: the place in the stream of samples decides, not what was drawn before.

So nothing random has to be stored: a run that continues draws what it would have drawn.
"""

from __future__ import annotations

import random

import numpy as np
import torch

from oneformer_train.loss.points import DrawPoints, points_of_images

# Orders of passes and augmentations are drawn under 0 and 1; see `oneformer_data.training.pipeline`.
_POINTS, _STEP = 2, 3


def prepare_step(seed: int, first: int, rank: int, count: int, device: torch.device) -> DrawPoints:
    """Seed a step and return the source of its sample points.

    Args:
        seed: `train.seed`.
        first: Position where the batch of all processes begins.
        rank: Of this process, which trains on examples of its own.
        count: Examples of a process.
        device: Of the sample points.
    """
    everything = step_seed(seed, first, rank)
    torch.manual_seed(everything)
    random.seed(everything)  # nothing here draws from Python or numpy, but a plugin's network may
    np.random.seed(everything % 2**32)
    start = first + rank * count
    return points_of_images(device, [points_seed(seed, position) for position in range(start, start + count)])


def points_seed(seed: int, position: int) -> int:
    """Return the seed of the sample points of the example at a position, whichever process trains on it."""
    return _mixed(seed, _POINTS, position)


def step_seed(seed: int, position: int, rank: int) -> int:
    """Return the seed of everything else that a process draws in the step whose batch begins at a position."""
    return _mixed(seed, _STEP, position, rank)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
