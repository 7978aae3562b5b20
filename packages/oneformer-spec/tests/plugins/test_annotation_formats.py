"""The format of annotations follows from their name, the same way for every package."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oneformer_spec.documents.editor_schema import json_schema
from oneformer_spec.errors import SpecError
from oneformer_spec.hooks import Dataset
from oneformer_spec.plugins import annotation_formats
from oneformer_spec.plugins.registry import registry


def inferred(annotations: str, panoptic: bool = False, type: str | None = None) -> str:
    found = annotation_formats.annotation_format(annotations, type=type, panoptic=panoptic, section="dataset.val")
    return found.name


@pytest.fixture
def installed(monkeypatch):
    """Return a function that installs formats beside the built-in ones."""

    def install(*declared: Dataset) -> None:
        every = replace(registry(), datasets={each.name: each for each in declared})
        monkeypatch.setattr("oneformer_spec.plugins.registry.registry", lambda: every)

    return install


@pytest.mark.parametrize(
    ("annotations", "panoptic", "name"),
    [
        ("a/b.json", False, "coco_instance"),
        ("a/b.JSON", True, "coco_panoptic"),
        ("a.jsonl", False, "semantic_jsonl"),
        ("a.tar", False, "webdataset"),
        ("a-{000..003}.tar", False, "webdataset"),
        ("a/shards.json", False, "webdataset"),
        ("a/shards.json", True, "webdataset"),  # its name says more than its suffix
        ("https://host/a/shards.json?v=2#x.y", False, "webdataset"),
        ("my_shards.json", False, "coco_instance"),
    ],
)
def test_by_name_suffix_and_folder(annotations, panoptic, name):
    assert inferred(annotations, panoptic) == name


@pytest.mark.parametrize("annotations", ["a", "a.txt", "folder/", "https://host/", "https://host/a?b=c.json"])
def test_what_shows_no_format_is_refused(annotations):
    with pytest.raises(
        SpecError, match=r"^dataset\.val\.type: is not set, and the name of .* does not show the format"
    ):
        inferred(annotations)


def test_a_named_type_wins():
    assert inferred("a.json", type="webdataset") == "webdataset"
    with pytest.raises(SpecError, match=r"^dataset\.val\.type: 'magic' is not installed; available: coco_instance, "):
        inferred("a.json", type="magic")


def test_a_class_path_stands_for_a_format_that_nobody_declares():
    declared = annotation_formats.annotation_format("a", type="mine.formats:Lines", panoptic=False, section="x")
    assert (declared.target, declared.tasks) == ("mine.formats:Lines", ("semantic", "instance", "panoptic"))


def test_a_plugin_adds_its_signs_and_changes_no_other_spec(installed):
    installed(
        Dataset("lines", "a:b", ("semantic",), suffixes=(".txt", ".json"), names=("data.yaml",)),
        Dataset("unnamed", "a:c", ("semantic",)),
    )
    assert inferred("a.txt") == inferred("b/data.yaml") == "lines"
    assert inferred("a.json") == "coco_instance"
    with pytest.raises(SpecError, match=r"\.jsonl as semantic_jsonl") as raised:
        inferred("a.yaml")
    assert ".txt and .json and data.yaml as lines" in str(raised.value)
    assert "unnamed" not in str(raised.value)
    assert annotation_formats.formats_for("semantic") == "coco_panoptic, lines, semantic_jsonl, unnamed, webdataset"


def test_two_plugins_that_fit_are_named(installed):
    installed(*(Dataset(name, "a:b", ("semantic",), suffixes=(".txt",)) for name in ("one", "two")))
    with pytest.raises(SpecError, match=r"is not set, and a\.txt fits one and two; name one of them$"):
        inferred("a.txt")


def test_the_schema_knows_them():
    split = json_schema()["properties"]["dataset"]["properties"]["val"]["properties"]
    assert split["type"]["anyOf"][0] == {
        "enum": ["coco_panoptic", "coco_instance", "semantic_jsonl", "webdataset", None]
    }
