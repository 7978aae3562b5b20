"""`metrics.csv`: the curves of a run as a table. A run that resumes continues it where its checkpoint was."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.schema import Spec

METRICS = "metrics.csv"
"""Name in the folder of a run."""


def csv_logger(spec: Spec, folder: Path) -> MetricsTable:
    """Return the logger `csv`, which writes `metrics.csv` into the folder of the run."""
    return MetricsTable(folder / METRICS)


class MetricsTable(Logger):
    """A row per entry, a column per metric, empty where a row has none; every row is on disk at once."""

    def __init__(self, path: Path) -> None:
        """Append to `path` once `resume` has been called."""
        super().__init__()
        self.path = path
        self._last_step = 0
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """The name in `train.loggers`."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: a folder holds one run."""
        return ""

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Continue after `step` optimiser steps: rows of later steps are trained again, so they are dropped."""
        self._last_step = step
        rows = [row for row in read_metrics(self.path) if int(row["step"]) <= step]
        self._columns = list(dict.fromkeys(name for row in rows for name in row)) or ["step"]
        self._write(rows)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; a metric that is new adds a column."""
        row = {"step": str(step or 0), **{name: f"{value:.6g}" for name, value in metrics.items()}}
        known = set(self._columns)
        self._columns += [name for name in row if name not in known]
        if len(self._columns) > len(known) or step == self._last_step:
            # The last step's own entries may be made again after a resume.
            self._write([*(old for old in read_metrics(self.path) if not _same_entry(old, row)), row])
            return
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the settings of a run are in its `experiment.yaml`."""

    def _write(self, rows: Iterable[Mapping[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Return the rows of a `metrics.csv` without their empty cells; a row that was cut off is left out."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file, restkey="")]
    return [row for row in rows if row.get("step", "").isdigit() and "" not in row]


def _same_entry(row: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return row["step"] == other["step"] and row.keys() == other.keys()
