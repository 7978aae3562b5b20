from __future__ import annotations

import pytest

pytest.importorskip("typer", reason="typer comes with oneformer-cli")

from typer.testing import CliRunner

from oneformer_data.commands.dataset import app


def test_show_draws_examples_of_a_spec(nuclei, tmp_path, monkeypatch):
    monkeypatch.chdir(nuclei.parent.parent)
    words = ["show", "-e", "examples/nuclei/demo.yaml", "--output", f"{tmp_path}", "--count", "2", "train.seed=3"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path}: 2 examples\n"
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.fixture
def files(nuclei, monkeypatch) -> list[str]:
    """Options that name the validation data of the example."""
    monkeypatch.chdir(nuclei)
    words = ["--annotations", "annotations/panoptic_val.json", "--images", "images/val", "--panoptic", "panoptic/val"]
    return [*words, "--label-map", "label_map.json"]


def test_check_finds_nothing_wrong_with_the_example(files):
    result = CliRunner().invoke(app, ["check", *files], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.endswith("no problems\n")


def test_settings_alone_need_no_number_of_classes(files):
    settings = ["dataset.label_map", "dataset.val.annotations", "dataset.val.panoptic", "dataset.val.images"]
    named = dict(zip(files[::2], files[1::2], strict=True))
    values = [named[name] for name in ("--label-map", "--annotations", "--panoptic", "--images")]
    words = [f"{path}={value}" for path, value in zip(settings, values, strict=True)]
    result = CliRunner().invoke(app, ["check", *words], catch_exceptions=False)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "no problems")


def test_stats_counts_the_example(files, tmp_path):
    words = ["stats", *files, "--json", f"{tmp_path / 'a.json'}"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert "nucleus" in result.stdout
    assert (tmp_path / "a.json").is_file()
