"""How good boundaries are: precision, recall and F-score of their pixels, over all images."""

import numpy as np
from numpy.typing import NDArray

from oneformer_boundary.targets import targets
from oneformer_data import Sample
from oneformer_spec import Labels, Segmentation

TOLERANCE = 2  # pixels between a boundary and one that counts as the same


def near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels within TOLERANCE rows and columns of a mask (H, W)."""
    padded = np.pad(mask, TOLERANCE)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * TOLERANCE + 1,) * 2)
    return np.any(windows, axis=(2, 3))


class BoundaryScore:
    """Counts pixels; it is made once per process and data set, and the counts are merged."""

    def __init__(self, labels: Labels) -> None:
        self.counts = np.zeros(4, dtype=np.int64)  # found, of them right; in the truth, of them found

    def update(self, sample: Sample, segmentation: Segmentation) -> None:
        """Add an image."""
        truth, found = targets(sample).masks.any(axis=0), segmentation.map > 0
        rows = (found, found & near(truth), truth, truth & near(found))
        self.counts += [np.count_nonzero(row) for row in rows]

    def merge(self, other: "BoundaryScore") -> None:
        """Add the images of another one."""
        self.counts += other.counts

    def compute(self) -> dict[str, dict[str, float]]:
        """Return the numbers of all images."""
        found, right, truth, hit = np.maximum(self.counts, (1, 0, 1, 0))
        precision, recall = right / found, hit / truth
        f_score = 2 * precision * recall / max(precision + recall, 1e-9)
        return {"boundary": {"F": f_score, "precision": precision, "recall": recall}}
