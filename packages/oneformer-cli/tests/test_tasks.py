"""Commands that run on a spec: `oneformer TASK -e FILE key=value … --flag`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("plugin")


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    file = tmp_path / "spec.yaml"
    file.write_text("results_dir: /leaves\ntrain:\n  num_epochs: 3\n")
    return file


def measure(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oneformer_cli", "measure", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_target_gets_the_spec_of_the_file(spec_file: Path) -> None:
    done = measure("-e", spec_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "results_dir=/leaves num_epochs=3 dry_run=False\n"


@pytest.mark.parametrize("option", ["-e", "--experiment_spec"])
@pytest.mark.parametrize("settings_first", [True, False])
def test_settings_win_over_the_file_on_either_side_of_the_options(
    spec_file: Path, option: str, settings_first: bool
) -> None:
    options, settings = (option, spec_file), ("train.num_epochs=5", "results_dir=/moss")
    done = measure(*settings, *options) if settings_first else measure(*options, *settings)
    assert done.stdout == "results_dir=/moss num_epochs=5 dry_run=False\n"


def test_of_several_files_the_later_wins(spec_file: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.yaml"
    later.write_text("train:\n  num_epochs: 8\n")
    assert "results_dir=/leaves num_epochs=8" in measure("-e", spec_file, "-e", later).stdout
    assert "results_dir=/leaves num_epochs=3" in measure("-e", later, "-e", spec_file).stdout


def test_no_file_is_needed() -> None:
    assert "num_epochs=6" in measure("train.num_epochs=6").stdout


def test_a_flag_of_the_declaration_reaches_the_target(spec_file: Path) -> None:
    assert "dry_run=True" in measure("-e", spec_file, "--dry-run").stdout


def test_a_flag_that_the_command_does_not_declare_is_refused(spec_file: Path) -> None:
    done = measure("-e", spec_file, "--force")
    assert done.returncode == 2
    assert "--force" in done.stderr


def test_a_wrong_spec_is_exit_code_2_with_all_its_problems_and_nothing_runs(spec_file: Path) -> None:
    spec_file.write_text("train:\n  num_epochs: many\n  nonsense: 1\n")
    done = measure("-e", spec_file)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{spec_file}:") for line in lines)


def test_a_missing_file_is_exit_code_2_and_one_line(tmp_path: Path) -> None:
    done = measure("-e", tmp_path / "absent.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [line for line in done.stderr.splitlines() if "absent.yaml" in line]
    assert "does not exist" in done.stderr


def test_an_error_of_the_run_is_exit_code_1_and_debug_adds_where(spec_file: Path) -> None:
    done = measure("-e", spec_file, "train.num_epochs=13")
    assert (done.returncode, done.stderr) == (1, "leaf.png: item 13: is unlucky\n")
    debugged = measure("-e", spec_file, "train.num_epochs=13", "--debug")
    assert debugged.stderr.startswith("leaf.png: item 13: is unlucky\n")
    assert "leaf_targets.py" in debugged.stderr


def test_an_alias_is_noted_on_stderr(spec_file: Path) -> None:
    done = measure("-e", spec_file, "train.pretrained_model=weights.pth")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    notes = done.stderr.splitlines()
    assert "train.pretrained_model_path" in notes[0]
    assert all(line.startswith("note: ") for line in notes)
