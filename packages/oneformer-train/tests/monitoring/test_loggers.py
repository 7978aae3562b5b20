"""The table of metrics and TensorBoard's files: a run that continues leaves one curve, nothing twice, nothing lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oneformer_train.monitoring.event_files import TensorBoard
from oneformer_train.monitoring.metrics_table import MetricsTable, read_metrics


def table(path: Path, last_step: int) -> MetricsTable:
    opened = MetricsTable(path)
    opened.resume(last_step)
    return opened


def board(folder: Path, last_step: int) -> TensorBoard:
    opened = TensorBoard(folder)
    opened.resume(last_step)
    return opened


def steps(path: Path, name: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), float(row[name])) for row in read_metrics(path) if name in row]


def test_rows_have_the_columns_of_all_entries(tmp_path: Path) -> None:
    opened = table(tmp_path / "metrics.csv", 0)
    opened.log_metrics({"loss": 1.25}, step=10)
    opened.log_metrics({"PQ": 0.5, "mIoU": 1 / 3}, step=10)
    opened.log_metrics({"loss": 1.0}, step=20)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,loss,PQ,mIoU",
        "10,1.25,,",
        "10,,0.5,0.333333",
        "20,1,,",
    ]


def test_what_is_trained_again_supersedes_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = table(path, 0)
    for step in (10, 20, 30):
        first.log_metrics({"loss": float(step)}, step=step)
    again = table(path, 20)
    again.log_metrics({"loss": 0.0}, step=30)
    again.log_metrics({"loss": 0.0}, step=40)
    assert steps(path, "loss") == [(10, 10.0), (20, 20.0), (30, 0.0), (40, 0.0)]


def test_an_entry_of_the_last_step_that_is_made_again_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = table(path, 0)
    first.log_metrics({"loss": 1.0}, step=10)
    first.log_metrics({"PQ": 0.5}, step=10)
    table(path, 10).log_metrics({"PQ": 0.5}, step=10)
    assert steps(path, "loss") == [(10, 1.0)]
    assert steps(path, "PQ") == [(10, 0.5)]


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n10,1\n2,3,4\nx,1\n\n")
    table(path, 100).log_metrics({"loss": 2.0}, step=110)
    assert steps(path, "loss") == [(10, 1.0), (110, 2.0)]


def test_tensorboard_hides_what_is_trained_again(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = board(tmp_path, 0)
    for step in (10, 20, 30):
        first.log_metrics({"loss": float(step)}, step=step)
    first.finalize("failed")
    again = board(tmp_path, 20)
    again.log_metrics({"loss": 0.0}, step=30)
    again.log_image("samples/a.png", [np.zeros((4, 8, 3), np.uint8)], step=30)
    again.finalize("success")
    shown = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in shown.Scalars("loss")] == [(10, 10.0), (20, 20.0), (30, 0.0)]
    (picture,) = shown.Images("samples/a.png")
    assert (picture.width, picture.height) == (8, 4)
