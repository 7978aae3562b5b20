"""Where curves go: a table on disk and TensorBoard. A run that continues takes up both where its checkpoint was."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tensorboardX import SummaryWriter

from oneformer_spec.files.atomic import write_atomically

METRICS, TENSORBOARD = "metrics.csv", "tensorboard"
"""Names in the folder of a run."""


class Journal(Protocol):
    """Takes the figures and pictures of a run by optimiser step."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Keep some figures by name."""

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Keep some pictures, RGB (H, W, 3), by name."""

    def close(self, *, failed: bool) -> None:
        """Finish; `failed` tells that the run did not end well."""


class MetricsTable:
    """`metrics.csv`: a row per entry, a column per figure, empty where a row has none."""

    def __init__(self, path: Path, *, last_step: int) -> None:
        """Go on after `last_step`: rows of later steps belong to what is trained again, and are dropped."""
        self.path = path
        self._last_step = last_step
        rows = [row for row in read_metrics(path) if int(row["step"]) <= last_step]
        self._columns = list(dict.fromkeys(name for row in rows for name in row)) or ["step"]
        self._write(rows)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row; a figure that is new adds a column."""
        row = {"step": str(step), **{name: f"{value:.6g}" for name, value in values.items()}}
        known = set(self._columns)
        self._columns += [name for name in row if name not in known]
        if len(self._columns) > len(known) or step == self._last_step:
            # The last step's own entries may be made again after a resume.
            self._write([*(old for old in read_metrics(self.path) if not _same_entry(old, row)), row])
            return
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Leave pictures to others."""

    def close(self, *, failed: bool) -> None:
        """Do nothing: every row is on disk."""

    def _write(self, rows: Iterable[Mapping[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Return the rows of a `metrics.csv`, figures that are not there left out; a row that was cut off is left out."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file, restkey="")]
    return [row for row in rows if row.get("step", "").isdigit() and "" not in row]


def _same_entry(row: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return row["step"] == other["step"] and row.keys() == other.keys()


class TensorBoard:
    """Event files for TensorBoard, which hides what an earlier process wrote about later steps."""

    def __init__(self, folder: Path, *, last_step: int) -> None:
        """Write into `folder`; the suffix keeps the files of two processes apart that start within a second."""
        self._writer = SummaryWriter(str(folder), purge_step=last_step + 1, filename_suffix=f".{time.time_ns()}")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Add pictures."""
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        self._writer.close()
