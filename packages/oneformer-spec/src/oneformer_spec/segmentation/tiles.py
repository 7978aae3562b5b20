"""Resize mask logits to an image's original size one tile at a time, so that they never fill memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from oneformer_spec.segmentation.frame import Frame, Size, undo
from oneformer_spec.segmentation.interpolation import Band, bands

Array = Any  # numpy.ndarray or torch.Tensor

# Height and width of a tile. On a CPU, the arrays of a small tile stay in the cache; accelerators need few large steps.
_CPU_TILE = (32, 64)
_ACCELERATOR_TILE = (512, 512)


@dataclass(frozen=True)
class Tile:
    """A rectangle of the original image, and the mask logits and weights that its pixels are interpolated from."""

    rows: slice
    columns: slice
    source: Array  # (h, w, K)
    row_weights: Array  # (rows, h)
    column_weights: Array  # (columns, w)

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def logits(self, masks: NDArray[np.integer] | None = None) -> Array:
        """Return the logits of all K masks, or of the chosen ones, as (rows, columns, K)."""
        source = self.source if masks is None else take(self.source, masks, axis=2)
        xp = array_namespace(source)
        (rows, columns), (height, _, count) = self.size, source.shape
        widened = xp.matmul(self.column_weights, source)  # (h, w, K) -> (h, columns, K)
        return xp.reshape(
            xp.matmul(self.row_weights, xp.reshape(widened, (height, columns * count))), (rows, columns, count)
        )


def tiles(mask_logits: Array, frame: Frame) -> Iterator[Tile]:
    """Cut the original image into tiles; `mask_logits` are float32 (K, h, w) and cover the padded input."""
    xp = array_namespace(mask_logits)
    count, height, width = (int(length) for length in mask_logits.shape)
    tile = _CPU_TILE if on_host(mask_logits) else _ACCELERATOR_TILE
    row_bands, column_bands = _bands(frame, (height, width), tile)
    # (K, h, w) -> (h, w, K); the reshape to one flat row makes the result contiguous.
    by_pixel = xp.reshape(xp.reshape(xp.permute_dims(mask_logits, (1, 2, 0)), (-1,)), (height, width, count))

    def convert(band: Band) -> tuple[Band, Array]:
        return band, xp.asarray(band.matrix.copy(), device=mask_logits.device)

    columns = [convert(band) for band in column_bands]
    for row, row_weights in map(convert, row_bands):
        for column, column_weights in columns:
            source = by_pixel[row.source, column.source]
            yield Tile(row.target, column.target, source, row_weights, column_weights)


@lru_cache(maxsize=16)
def _bands(frame: Frame, size: Size, tile: Size) -> tuple[tuple[Band, ...], tuple[Band, ...]]:
    rows, columns = undo(frame, size)
    return bands(rows, tile[0]), bands(columns, tile[1])


def take(array: Array, indices: NDArray[np.integer], *, axis: int = 0) -> Array:
    """Return the chosen entries along an axis, for an array of any library."""
    xp = array_namespace(array)
    return xp.take(array, xp.asarray(indices, device=array.device), axis=axis)


def on_host(array: Array) -> bool:
    """Whether an array is in the host's memory, not in an accelerator's."""
    return "cpu" in str(array.device)


def to_numpy(array: Array) -> NDArray[Any]:
    """Convert an array of any library to numpy."""
    return np.asarray(array if isinstance(array, np.ndarray) else array.detach().cpu().numpy())
