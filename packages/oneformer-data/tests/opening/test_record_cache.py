"""`dataset_type: serialized`: annotations are parsed once and kept in a file that every process maps."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from oneformer_data.formats import coco_instance, coco_panoptic, semantic_jsonl
from oneformer_data.opening.record_cache import PackedRecords, cache_folder
from oneformer_spec.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEFORMER_CACHE", f"{tmp_path / 'cache'}")
    return tmp_path / "cache"


@pytest.fixture(params=["panoptic", "instance", "semantic"])
def case(request, folder):
    """A format, and a data set in it."""
    folder.save()
    root = folder.root
    if request.param == "panoptic":
        return coco_panoptic.CocoPanoptic, folder.source
    if request.param == "instance":
        images = [{"id": 1, "file_name": "11.png", "height": 24, "width": 32}]
        rows = [
            {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 9, 1, 9, 9], [1.5, 2, 8, 3, 7, 20.25]]},
            {"id": 2, "image_id": 1, "category_id": 3, "segmentation": {"size": [24, 32], "counts": [5, 7, 756]}},
        ]
        (root / "instances.json").write_text(json.dumps({"images": images, "annotations": rows}))
        source = replace(folder.source, annotations=f"{root / 'instances.json'}", panoptic=None)
        return coco_instance.CocoInstance, source
    Image.fromarray(np.full((24, 32), 7, dtype=np.uint8)).save(root / "images" / "m.png")
    (root / "masks.jsonl").write_text('{"img": "11.png", "segm": "m.png"}')
    return semantic_jsonl.SemanticJsonl, replace(folder.source, annotations=f"{root / 'masks.jsonl'}", panoptic=None)


def packed(source):
    return replace(source, serialized=True)


def test_packed_records_are_the_records(case, labels):
    format, source = case
    plain, kept = format(source).open(labels), format(packed(source)).open(labels)
    assert isinstance(kept.records, PackedRecords)
    assert list(kept.records) == list(plain.records) == kept.records[:]
    assert kept.records[-1] == plain.records[-1]
    with pytest.raises(IndexError):
        kept.records[len(plain)]
    assert kept.tasks == plain.tasks
    for one, other in zip(kept, plain, strict=True):
        assert np.array_equal(one.id_maps, other.id_maps)


def test_a_name_that_no_file_can_have_is_told_of(folder, labels):
    folder.document["images"][0]["file_name"] = "\ud800.png"
    folder.save()
    with pytest.raises(DataError, match=r"\.png: does not exist"):
        coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels)


def test_the_next_start_parses_nothing(case, labels, cache, monkeypatch):
    format, source = case
    first = list(format(packed(source)).open(labels).records)
    monkeypatch.setattr(f"{format.__module__}.read_records", None)
    assert list(format(packed(source)).open(labels).records) == first
    assert len(list(cache.iterdir())) == 1


def test_a_worker_gets_the_name_of_the_file(case, labels):
    format, source = case
    kept = format(packed(source)).open(labels)
    sent = pickle.dumps(kept.records)
    assert len(sent) < 400
    assert list(pickle.loads(sent)) == list(kept.records)


def test_other_annotations_or_classes_are_another_file(folder, labels, cache):
    folder.save()
    coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels)
    folder.document["annotations"][0]["segments_info"].reverse()
    folder.save()
    samples = coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels)
    assert samples.records[0].segments[-1].id == folder.document["annotations"][0]["segments_info"][-1]["id"]
    coco_panoptic.CocoPanoptic(packed(folder.source)).open(replace(labels, items=labels.items[::-1]))
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-9],
        lambda data: data + b"\0",
        lambda data: b"x" * len(data),
        lambda data: data.replace(b'"format":1', b'"format":2'),
        lambda data: data.replace(b"11.png", b"12.png"),
        lambda data: b'{"format":1}\n' + data,
    ],
)
def test_a_damaged_file_is_made_anew(folder, labels, cache, capsys, damage):
    folder.save()
    first = list(coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels).records)
    [path] = cache.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert list(coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels).records) == first
    assert f"note: {path}: is damaged and is made anew from {folder.json}\n" in capsys.readouterr().err
    assert list(coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels).records) == first
    assert capsys.readouterr().err == ""


def test_without_a_place_for_the_file_annotations_stay_in_memory(folder, labels, cache, capsys):
    folder.save()
    cache.write_text("a file where the folder should be")
    samples = coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels)
    assert isinstance(samples.records, tuple)
    assert "the annotations stay in memory (ONEFORMER_CACHE names another folder)" in capsys.readouterr().err


def test_wrong_annotations_are_refused_and_not_kept(folder, labels, cache):
    folder.document["annotations"][0]["segments_info"][0]["category_id"] = 99
    folder.save()
    with pytest.raises(DataError, match="category 99 is not in the label map"):
        coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels)
    assert not cache.exists()


def test_files_that_went_missing_are_found_in_packed_data_too(folder, labels):
    folder.save()
    coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels)
    (folder.root / "panoptic" / "12.png").unlink()
    with pytest.raises(DataError, match=r"panoptic/12\.png: does not exist \(image 12 of "):
        coco_panoptic.CocoPanoptic(packed(folder.source)).open(labels)


def test_the_place_of_the_files(monkeypatch, tmp_path):
    monkeypatch.delenv("ONEFORMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", f"{tmp_path}")
    assert cache_folder() == tmp_path / "oneformer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", f"{tmp_path}")
    assert cache_folder() == tmp_path / ".cache" / "oneformer"
