"""COCO's uncompressed run-length encoding: the lengths of the runs of 0s, 1s, 0s, … down the columns of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rle = dict[str, list[int]]
"""``size``: height and width; ``counts``: run lengths in column-major order, starting with 0s (that run may be 0)."""


def encode(mask: NDArray[np.bool_], bbox: tuple[int, int, int, int] | None = None) -> Rle:
    """Encode a mask (H, W). With ``bbox`` (x, y, width, height) only the columns inside it are read, which is faster.

    >>> encode(np.array([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': [2, 2]}
    """
    height, width = mask.shape
    left, _, across, _ = bbox or (0, 0, width, height)
    columns = np.ascontiguousarray(mask[:, left : left + across].T).reshape(-1)  # column-major
    bounded = np.concatenate(([False], columns, [False]))
    changes = np.flatnonzero(bounded[1:] != bounded[:-1]) + left * height  # 0 -> 1, 1 -> 0, 0 -> 1, …
    counts = np.diff(changes, prepend=0, append=height * width).tolist()
    if len(counts) > 1 and counts[-1] == 0:  # the last run of 1s ends with the picture
        counts.pop()
    return {"size": [height, width], "counts": counts}


def decode(rle: Rle) -> NDArray[np.bool_]:
    """Decode to a mask (H, W)."""
    height, width = rle["size"]
    values = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(values, rle["counts"]).reshape(width, height).T
