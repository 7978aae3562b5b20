"""The table of figures and TensorBoard's files: a run that continues leaves one curve, nothing twice, nothing lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oneformer_train.monitoring.loggers import MetricsTable, TensorBoard, read_metrics


def steps(path: Path, name: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), float(row[name])) for row in read_metrics(path) if name in row]


def test_rows_have_the_columns_of_all_entries(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv", last_step=0)
    table.scalars(10, {"loss": 1.25})
    table.scalars(10, {"PQ": 0.5, "mIoU": 1 / 3})
    table.scalars(20, {"loss": 1.0})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,loss,PQ,mIoU",
        "10,1.25,,",
        "10,,0.5,0.333333",
        "20,1,,",
    ]


def test_what_is_trained_again_supersedes_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsTable(path, last_step=0)
    for step in (10, 20, 30):
        first.scalars(step, {"loss": float(step)})
    again = MetricsTable(path, last_step=20)
    again.scalars(30, {"loss": 0.0})
    again.scalars(40, {"loss": 0.0})
    assert steps(path, "loss") == [(10, 10.0), (20, 20.0), (30, 0.0), (40, 0.0)]


def test_an_entry_of_the_last_step_that_is_made_again_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsTable(path, last_step=0)
    first.scalars(10, {"loss": 1.0})
    first.scalars(10, {"PQ": 0.5})
    MetricsTable(path, last_step=10).scalars(10, {"PQ": 0.5})
    assert steps(path, "loss") == [(10, 1.0)]
    assert steps(path, "PQ") == [(10, 0.5)]


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n10,1\n2,3,4\nx,1\n\n")
    MetricsTable(path, last_step=100).scalars(110, {"loss": 2.0})
    assert steps(path, "loss") == [(10, 1.0), (110, 2.0)]


def test_tensorboard_hides_what_is_trained_again(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = TensorBoard(tmp_path, last_step=0)
    for step in (10, 20, 30):
        first.scalars(step, {"loss": float(step)})
    first.close(failed=True)
    again = TensorBoard(tmp_path, last_step=20)
    again.scalars(30, {"loss": 0.0})
    again.pictures(30, {"samples/a.png": np.zeros((4, 8, 3), np.uint8)})
    again.close(failed=False)
    shown = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in shown.Scalars("loss")] == [(10, 10.0), (20, 20.0), (30, 0.0)]
    (picture,) = shown.Images("samples/a.png")
    assert (picture.width, picture.height) == (8, 4)
