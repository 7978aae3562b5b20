from __future__ import annotations

import pytest

pytest.importorskip("typer", reason="typer comes with oneformer-cli")

from typer.testing import CliRunner

from oneformer_data.dataset_app import app


def test_show_draws_examples_of_a_spec(nuclei, tmp_path, monkeypatch):
    monkeypatch.chdir(nuclei.parent.parent)
    words = ["show", "-e", "examples/nuclei/demo.yaml", "--output", f"{tmp_path}", "--count", "2", "train.seed=3"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path}: 2 examples\n"
    assert len(list(tmp_path.glob("*.png"))) == 2
