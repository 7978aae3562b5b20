"""A manifest survives the trip through a file, and a damaged one is one line that names the file."""

import copy
import json

import pytest

from oneformer_spec.errors import CheckpointError
from oneformer_spec.labels import Labels
from oneformer_spec.loading.load import load_spec, to_dict
from oneformer_spec.segmentation.decode import Thresholds
from oneformer_spec.segmentation.frame import FitInto, ShortestEdge
from oneformer_spec.segmentation.manifest import Manifest, image_size_rule
from oneformer_spec.tasks import TASKS, task_row

LABELS = Labels.parse(
    [{"id": 4, "name": "Straße", "isthing": 0}, {"id": 2, "name": "Kern", "isthing": 1, "color": [1, 2, 3]}], source="x"
)


def manifest(**changes):
    fields = {
        "labels": LABELS,
        "model": {"backbone": {"type": "swin", "depths": [2, 2]}, "precise_msda": False},
        "mean": (123.675, 116.28, 103.53),
        "std": (58.395, 57.12, 57.375),
        "size": ShortestEdge(800, 1333),
        "divisibility": 32,
        "thresholds": Thresholds(0.25, 0.5, 7),
        "model_name": "nuclei",
        "producer": {"oneformer-spec": "0.1.0"},
    }
    return Manifest(**fields | changes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"size": FitInto(height=300, width=500)}, {"fixed_size": (512, 640)}, {"model_name": None}],
)
def test_round_trip(changes):
    original = manifest(**changes)
    assert Manifest.from_dict(original.to_dict(), "x") == original
    assert Manifest.from_json(original.to_json(), "x") == original


def test_plain_data_only():
    def plain(value):
        if isinstance(value, dict):
            return all(type(key) is str and plain(item) for key, item in value.items())
        if type(value) is list:
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    assert plain(manifest(fixed_size=(512, 640)).to_dict())


def test_the_task_rows_are_inside():
    assert manifest().to_dict()["task_tokens"] == {task.value: task_row(task) for task in TASKS}


def test_a_fixed_size_is_all_that_an_export_changes():
    exported = manifest().with_fixed_size((256, 512))
    assert exported.fixed_size == (256, 512)
    assert exported == manifest(fixed_size=(256, 512))


def test_fields_of_a_later_minor_version_are_passed_over():
    assert Manifest.from_dict(manifest().to_dict() | {"novelty": 1}, "x") == manifest()


def error(data):
    with pytest.raises(CheckpointError) as caught:
        Manifest.from_dict(data, "model.onnx")
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("data", [None, 5, "text", [], {}, {"labels": []}])
def test_what_is_no_manifest(data):
    assert error(data) == "model.onnx: contains no oneformer manifest"


def test_a_newer_format_asks_for_an_update():
    assert error(manifest().to_dict() | {"format": 2}) == (
        "model.onnx: has manifest format 2, but this version reads 1; update oneformer"
    )


@pytest.mark.parametrize("number", [0, "1.5", None])
def test_a_format_that_never_was_is_damage(number):
    assert error(manifest().to_dict() | {"format": number}).startswith("model.onnx: its manifest is damaged (format ")


@pytest.mark.parametrize("field", sorted(manifest().to_dict()))
def test_a_missing_field_is_named(field):
    data = manifest().to_dict()
    del data[field]
    assert error(data) == (
        "model.onnx: contains no oneformer manifest"
        if field == "format"
        else f"model.onnx: its manifest is damaged (KeyError: '{field}')"
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("mean",), "abc"),
        (("mean",), None),
        (("size",), []),
        (("size", "shortest"), "wide"),
        (("divisibility",), None),
        (("divisibility",), float("inf")),
        (("thresholds",), 3),
        (("thresholds", "overlap"), "much"),
        (("task_tokens",), {}),
        (("task_tokens", "panoptic"), None),
        (("model",), 5),
        (("producer",), "me"),
        (("fixed_size",), [512]),
        (("labels",), [{"id": 0, "name": "x"}]),
    ],
)
def test_a_wrong_value_is_damage(path, value):
    data = copy.deepcopy(manifest().to_dict())
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    assert error(data).startswith("model.onnx: ")


def test_wrong_labels_name_the_row():
    data = manifest().to_dict() | {"labels": [{"id": 0, "name": "x"}]}
    assert error(data) == "model.onnx: manifest: category 0: the id must be an integer greater than 0, found 0"


def test_text_that_is_no_json():
    with pytest.raises(CheckpointError, match=r"^model\.onnx: its manifest is not valid JSON: "):
        Manifest.from_json("{", "model.onnx")


def test_image_size_is_width_and_height_as_in_the_spec():
    assert image_size_rule(None) is None
    assert image_size_rule(640) == FitInto(height=640, width=640)
    assert image_size_rule([1024, 512]) == FitInto(height=512, width=1024)


def test_from_spec():
    spec = load_spec(
        [],
        [
            "model_name=demo",
            "model.test.object_mask_threshold=0.3",
            "model.test.overlap_threshold=0.6",
            "model.test.test_topk_per_image=20",
            "dataset.augmentation.test_min_size=320",
            "dataset.augmentation.test_max_size=500",
            "dataset.pixel_mean=[1, 2, 3]",
        ],
    ).spec
    result = Manifest.from_spec(spec, LABELS, {"oneformer-model": "0.1.0"})
    assert result.size == ShortestEdge(320, 500)
    assert result.thresholds == Thresholds(0.3, 0.6, 20)
    assert (result.mean, result.model_name, result.divisibility) == ((1, 2, 3), "demo", 32)
    assert result.producer == {"oneformer-model": "0.1.0"}
    model = to_dict(spec)["model"]
    for unused in ("dinat", "efficientvit", "timm"):
        del model["backbone"][unused]
    assert result.model == model
    assert Manifest.from_json(json.dumps(result.to_dict()), "x") == result


def test_from_spec_with_an_image_size():
    spec = load_spec([], ["dataset.image_size=[640, 480]"]).spec
    assert Manifest.from_spec(spec, LABELS, {}).size == FitInto(height=480, width=640)
