from __future__ import annotations

import json

import pytest

pytest.importorskip("typer", reason="typer comes with oneformer-cli")

from typer.testing import CliRunner

from oneformer_data.score_app import app
from oneformer_spec.errors import DataError

RUNNER = CliRunner()


def score(*words: object):
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_panoptic_prints_a_table_and_writes_json(oracle, tmp_path):
    folder, path = oracle / "pq" / "edge", tmp_path / "a.json"
    words = ["--gt", folder / "gt.json", "--gt-dir", folder / "gt", "--pred", folder / "pred.json"]
    result = score("panoptic", *words, "--pred-dir", folder / "pred", "--json", path)
    assert result.exit_code == 0
    assert "40.82" in result.output
    assert json.loads(path.read_text())["PQ"]["all"]["n"] == 3


def test_instance_prints_json_and_nothing_else(oracle):
    folder = oracle / "ap" / "synthetic100"
    result = score("instance", "--gt", folder / "gt.json", "--pred", folder / "pred_mixed.json", "--json", "-")
    assert json.loads(result.output)["AP"]["AP"] == pytest.approx(0.13560744544111175)


def test_semantic_takes_the_number_of_classes(oracle):
    folder = oracle / "miou" / "synthetic100"
    words = ["--gt", folder / "gt", "--pred", folder / "pred_mixed", "--num-classes", 19, "--ignore", 255]
    result = score("semantic", *words, "--json", "-")
    assert json.loads(result.output)["mIoU"] == pytest.approx(0.46835933016213266)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"gt\.json: does not exist$"):
        score("instance", "--gt", tmp_path / "gt.json", "--pred", tmp_path / "pred.json")
