"""`oneformer spec set`: the file changes, its comments do not; a wrong setting changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = """# How leaves are learned
train:
  num_epochs: 3   # until they fall
  optim: {lr: 1.0e-4}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(TEXT)
    return path


def spec_set(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oneformer_cli", "spec", "set", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_values_change_and_nothing_else(file: Path) -> None:
    done = spec_set(file, "train.num_epochs=10", "train.optim.lr=0.001", "dataset.task_prob_val={panoptic: 1}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    changed = TEXT.replace("num_epochs: 3 ", "num_epochs: 10 ").replace("1.0e-4", "0.001")
    assert file.read_text() == f"{changed}dataset:\n  task_prob_val: {{panoptic: 1}}\n"


def test_json_stays_json(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text('{"train": {"num_epochs": 3}}')
    assert spec_set(path, "train.optim.lr=1e-5", "train.precision=fp16").returncode == 0
    assert json.loads(path.read_text())["train"] == {"num_epochs": 3, "optim": {"lr": 1e-5}, "precision": "fp16"}


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        (["train.num_epochs=-1"], "train.num_epochs=-1: train.num_epochs: found -1, expected a whole number >= 1\n"),
        (
            ["train.num_epochs=5", "train.num_epoch=5", "train.optim.lr"],
            "train.num_epoch=5: train.num_epoch: unknown field; did you mean train.num_epochs?\n"
            "train.optim.lr: an override is written path.to.field=value\n",
        ),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(file: Path, settings: list[str], problems: str) -> None:
    done = spec_set(file, *settings)
    assert (done.returncode, done.stdout, sorted(done.stderr.splitlines())) == (2, "", sorted(problems.splitlines()))
    assert file.read_text() == TEXT


def test_a_file_that_is_not_there_is_named_first(tmp_path: Path) -> None:
    done = spec_set(tmp_path / "absent.yaml", "nonsense=1")
    assert (done.returncode, done.stderr) == (2, f"{tmp_path / 'absent.yaml'}: does not exist\n")


def test_a_setting_is_required(file: Path) -> None:
    done = spec_set(file)
    assert done.returncode == 2
    assert "KEY=VALUE" in done.stderr


def test_help_is_printed_on_both_levels() -> None:
    for words in (["spec", "-h"], ["spec", "set", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "oneformer_cli", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: oneformer {' '.join(words[:-1])} ")
