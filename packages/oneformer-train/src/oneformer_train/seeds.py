"""Seeds of what is drawn while training: the place in the stream of samples decides, not what was drawn before.

So nothing random has to be stored: a run that continues draws what it would have drawn.
"""

from __future__ import annotations

import numpy as np

# Orders of passes and augmentations are drawn under 0 and 1; see `oneformer_data.pipeline`.
_POINTS, _STEP = 2, 3


def points_seed(seed: int, position: int) -> int:
    """Return the seed of the sample points of the example at a position, whichever process trains on it."""
    return _mixed(seed, _POINTS, position)


def step_seed(seed: int, position: int, rank: int) -> int:
    """Return the seed of everything else that a process draws in the step whose batch begins at a position."""
    return _mixed(seed, _STEP, position, rank)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
