from __future__ import annotations

import json

import pytest

pytest.importorskip("typer", reason="typer comes with oneformer-cli")

from typer.testing import CliRunner

from oneformer_data.commands.score import app
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


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ([[float("nan"), 1, 9, 1, 9, 9]], "polygon 0 has the coordinate nan"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "polygon 0 reaches to 1000000000.0"),
        ({"size": [20, 30], "counts": "garbage~~~~"}, "the compressed run lengths are damaged"),
        ({"size": [20, 30], "counts": "PPYo10"}, "the run lengths do not end with the picture"),
        ({"size": [20, 30], "counts": 5}, "the run lengths are neither text nor a list"),
    ],
)
@pytest.mark.parametrize("wrong", ["gt", "pred"])
def test_masks_that_lie_are_refused(tmp_path, wrong, segmentation, problem):
    rows = {
        name: {"id": 1, "image_id": 1, "category_id": 1, "score": 0.5, "segmentation": [[1, 1, 9, 1, 9, 9]]}
        for name in ("gt", "pred")
    }
    rows[wrong]["segmentation"] = segmentation
    truth = {"images": [{"id": 1, "height": 20, "width": 30}], "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "gt").write_text(json.dumps({**truth, "annotations": [rows["gt"]]}))
    (tmp_path / "pred").write_text(json.dumps([rows["pred"]]))
    with pytest.raises(DataError, match=rf"{wrong}: image 1, entry 0: .*{problem}"):
        score("instance", "--gt", tmp_path / "gt", "--pred", tmp_path / "pred")


def test_a_size_that_no_picture_has_is_refused(tmp_path):
    truth = {"images": [{"id": 1, "height": 20, "width": 10**9}], "categories": [], "annotations": []}
    (tmp_path / "gt").write_text(json.dumps(truth))
    with pytest.raises(DataError, match="image 1: has no height and width from 1 to 65500"):
        score("instance", "--gt", tmp_path / "gt", "--pred", tmp_path / "pred")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"gt\.json: does not exist$"):
        score("instance", "--gt", tmp_path / "gt.json", "--pred", tmp_path / "pred.json")
