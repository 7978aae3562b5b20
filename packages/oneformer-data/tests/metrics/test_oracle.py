"""Scores of saved predictions equal those of the reference tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oneformer_data.evaluation.saved_predictions import score_instance, score_panoptic, score_semantic
from oneformer_spec.errors import DataError

SHIPPED = {
    "pq": ("edge", "synthetic100", "coco_open"),
    "ap": ("synthetic100", "nuclei_few"),
    "miou": ("synthetic100", "nuclei_few"),
}
SHARED = {
    "pq": ("coco_pan3", "coco_pan_val20"),
    "ap": ("coco_inst", "coco_pan3"),
    "miou": ("ade20k", "camvid"),
}


def expected(folder: Path) -> dict:
    return json.loads((folder / "expected.json").read_text())


def check_panoptic(folder: Path) -> None:
    for variant, wanted in expected(folder).items():
        name = variant if variant == "pred" else f"pred_{variant}"
        paths = (folder / "gt.json", folder / "gt", folder / f"{name}.json", folder / name)
        found = score_panoptic(*map(str, paths))["PQ"]
        for kind in ("all", "things", "stuff"):
            reference = wanted[kind.capitalize()]
            assert found[kind] == (None if reference is None else pytest.approx(reference, abs=1e-9))
        assert found["per_class"].keys() == wanted["per_class"].keys()
        for category, row in wanted["per_class"].items():
            assert found["per_class"][category] == pytest.approx(row, abs=1e-9)


def check_instance(folder: Path) -> None:
    for variant, wanted in expected(folder).items():
        if variant == "note":
            continue
        found = score_instance(f"{folder / 'gt.json'}", f"{folder / f'pred_{variant}.json'}")["AP"]
        assert found.pop("per_class") == {
            category: pytest.approx(row, abs=1e-6) for category, row in wanted["per_class"].items()
        }
        assert found == {name: pytest.approx(wanted[name], abs=1e-6) for name in found}
        assert len(found) == 12


def check_semantic(folder: Path) -> None:
    document = expected(folder)
    sizes = {"num_classes": document["num_classes"], "ignore": document["ignore_index"]}
    for variant, wanted in document["predictions"].items():
        found = score_semantic(f"{folder / 'gt'}", f"{folder / f'pred_{variant}'}", **sizes)
        for name, value in found.items():
            values, references = (value, wanted[name]) if name == "IoU_per_class" else ([value], [wanted[name]])
            assert values == [None if entry is None else pytest.approx(entry, abs=1e-6) for entry in references]


CHECKS = {"pq": check_panoptic, "ap": check_instance, "miou": check_semantic}


@pytest.mark.parametrize(("metric", "name"), [(metric, name) for metric, names in SHIPPED.items() for name in names])
def test_shipped_reference_scores_are_met(oracle, metric, name):
    CHECKS[metric](oracle / metric / name)


@pytest.mark.parametrize(("metric", "name"), [(metric, name) for metric, names in SHARED.items() for name in names])
def test_further_reference_scores_are_met(shared_data, metric, name):
    CHECKS[metric](shared_data / "oracle" / metric / name)


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("id_in_png_not_in_json", "id 6 (32 pixels) has no entry in segments_info"),
        ("id_in_json_not_in_png", "segment 77 of segments_info has no pixels"),
        ("unknown_category", "image 1: segment 900: category 99 is not in the label map"),
        ("missing_image", "image 1: has no prediction"),
    ],
)
def test_what_the_reference_refuses_is_refused(oracle, tmp_path, case, problem):
    folder = oracle / "pq" / "edge"
    rejected = json.loads((folder / "must_be_rejected.json").read_text())
    predictions = json.loads((folder / "pred.json").read_text())
    rest = [row for row in predictions["annotations"] if row["image_id"] != 1]
    changed = [] if case == "missing_image" else [rejected["cases"][case]]
    path = tmp_path / "pred.json"
    path.write_text(json.dumps({"annotations": [*changed, *rest]}))
    with pytest.raises(DataError) as raised:
        score_panoptic(f"{folder}/gt.json", f"{folder}/gt", f"{path}", f"{folder}/pred")
    message = str(raised.value)
    assert problem in message
    assert f"{path}" in message
