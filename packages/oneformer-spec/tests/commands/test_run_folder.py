"""A run's folder holds the spec that reproduces it and one line of status per event."""

import json
import os
import re

import numpy as np
import pytest

from oneformer_spec.commands.run_folder import RunFolder, results_folder
from oneformer_spec.errors import DataError, OneFormerError, SpecError
from oneformer_spec.loading.load import load_spec


def spec(*overrides):
    return load_spec([], overrides).spec


def lines(folder):
    return [json.loads(line) for line in (folder.path / "status.json").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path):
    return RunFolder.open(spec(f"results_dir={tmp_path}"), "train")


def test_a_task_writes_below_results_dir(folder, tmp_path):
    assert folder.path == tmp_path / "train"
    assert folder.path.is_dir()


def test_the_tasks_own_results_dir_wins(tmp_path):
    chosen = spec(f"results_dir={tmp_path}/a", f"evaluate.results_dir={tmp_path}/b")
    assert results_folder(chosen, "evaluate") == tmp_path / "b"
    assert results_folder(chosen, "train") == tmp_path / "a" / "train"


def test_experiment_yaml_loads_to_the_same_spec(tmp_path):
    original = spec(f"results_dir={tmp_path}", "train.num_epochs=3", "model.backbone.swin.embed_dim=24")
    folder = RunFolder.open(original, "train")
    assert load_spec([folder.path / "experiment.yaml"]).spec == original


def test_opening_again_keeps_the_status_and_replaces_the_spec(folder, tmp_path):
    folder.status("RUNNING", "first")
    again = RunFolder.open(spec(f"results_dir={tmp_path}", "train.num_epochs=77"), "train")
    assert [line["message"] for line in lines(again)] == ["first"]
    assert "num_epochs: 77" in (again.path / "experiment.yaml").read_text()
    assert sorted(os.listdir(again.path)) == ["experiment.yaml", "status.json"]


@pytest.mark.parametrize("below", ["", "/deeper", "/deeper/still"])
def test_a_file_in_the_way_is_named_and_stays(tmp_path, below):
    file = tmp_path / "results"
    file.write_text("precious")
    with pytest.raises(SpecError) as caught:
        RunFolder.open(spec(f"results_dir={file}{below}"), "train")
    assert str(caught.value) == f"{file}: is a file; results_dir must name a folder"
    assert caught.value.exit_code == 2  # the spec is wrong and nothing was started
    assert file.read_text() == "precious"


def test_a_file_in_place_of_the_tasks_folder_is_named(tmp_path):
    (tmp_path / "train").write_text("precious")
    with pytest.raises(OneFormerError, match=re.escape(f"{tmp_path / 'train'}: is a file")):
        RunFolder.open(spec(f"results_dir={tmp_path}"), "train")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OneFormerError, match=r"cannot write results there: Permission denied$"):
        RunFolder.open(spec(f"results_dir={tmp_path}"), "train")


def test_a_status_line_has_the_documented_fields(folder):
    folder.status("RUNNING", "Größe", epoch=3, eta="0:12:00", kpi={"mIoU": 0.5, "PQ": {"pq": np.float32(0.25)}})
    (line,) = lines(folder)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", line.pop("date"))
    assert re.fullmatch(r"\d\d:\d\d:\d\d", line.pop("time"))
    assert line == {
        "status": "RUNNING",
        "message": "Größe",
        "epoch": 3,
        "eta": "0:12:00",
        "kpi": {"mIoU": 0.5, "PQ": {"pq": 0.25}},
    }


def test_a_line_says_only_what_is_known(folder):
    folder.status("RUNNING", "x")
    assert list(lines(folder)[0]) == ["date", "time", "status", "message"]


def test_a_message_of_several_lines_stays_one_line(folder):
    folder.status("RUNNING", "two\nlines")
    assert lines(folder)[0]["message"] == "two\nlines"


def test_figures_that_are_no_numbers_become_null(folder):
    folder.status("RUNNING", "x", kpi={"loss": float("nan"), "best": np.float64("inf"), "all": [1, float("nan")]})
    assert lines(folder)[0]["kpi"] == {"loss": None, "best": None, "all": [1, None]}


def test_a_run_that_ends_well(folder):
    with folder:
        folder.status("RUNNING", "half way")
    assert [line["status"] for line in lines(folder)] == ["STARTED", "RUNNING", "SUCCESS"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("a.png: truncated"), "a.png: truncated"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "stopped by a signal"),
        (SystemExit(143), "stopped by a signal"),
    ],
)
def test_a_run_that_fails_says_why_and_lets_the_error_go_on(folder, error, message):
    with pytest.raises(type(error)), folder:
        raise error
    last = lines(folder)[-1]
    assert (last["status"], last["message"]) == ("FAILURE", message)


def test_a_full_disk_does_not_hide_the_error_it_caused(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    def run():
        with folder:
            monkeypatch.setattr(os, "fsync", full)
            raise DataError("model.pth: cannot be written")

    with pytest.raises(DataError, match="cannot be written"):
        run()
