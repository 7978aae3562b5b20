"""`oneformer dataset check`: the problems of each data set, and the pictures that two splits share."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from oneformer_data.datasets import data_set
from oneformer_data.opening.format import Format
from oneformer_data.opening.selection import selected
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_data.tools import check
from oneformer_spec.errors import SpecError
from oneformer_spec.hooks import Dataset
from oneformer_spec.plugins import registry
from oneformer_spec.schema import DatasetSection, Split


@pytest.fixture
def label_map(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([{"id": 3, "name": "square", "isthing": 1}, {"id": 7, "name": "ground", "isthing": 0}]))
    return str(path)


@pytest.fixture
def dataset(folder, label_map):
    source = folder.source
    split = Split(images=source.images, annotations=source.annotations, panoptic=source.panoptic)
    return DatasetSection(label_map=label_map, val=split)


def found(folder, dataset):
    folder.save()
    told: list[str] = []
    findings = check.check(dataset, told.append)
    assert tuple(told) == findings.problems
    return findings


def part(folder, name, image_ids):
    """Write annotations of some of the pictures, and return their split."""
    path = folder.root / f"{name}.json"
    rows = [row for row in folder.document["annotations"] if row["image_id"] in image_ids]
    path.write_text(json.dumps({"images": folder.document["images"], "annotations": rows}))
    return Split(images=folder.source.images, annotations=f"{path}", panoptic=folder.source.panoptic)


def test_good_data_is_counted(folder, dataset):
    findings = found(folder, dataset)
    assert findings.document() == {
        "images": 2,
        "data_sets": [
            {"split": "val", "annotations": f"{folder.json}", "images": 2, "problems": 0, "overlapping": None}
        ],
        "problems": [],
    }


def test_a_size_in_the_json_must_be_the_pictures(folder, dataset):
    folder.document["images"][0].update(width=24, height=32)
    folder.document["images"][1].update(width="32")
    item = f"of {folder.json})"
    assert found(folder, dataset).problems == (
        f"{folder.root / 'images' / '11.png'}: the JSON says 24x32 but the image is 32x24"
        f" in the orientation that its EXIF data asks for (image 11 {item}",
        f"{folder.root / 'images' / '12.png'}: the JSON says width '32' and height 24, expected whole numbers from 1 on"
        f" (image 12 {item}",
    )


def test_a_size_may_be_missing_from_the_json(folder, dataset):
    for row in folder.document["images"]:
        del row["width"], row["height"]
    assert found(folder, dataset).problems == ()


def test_a_picture_that_ends_early_is_found_although_its_header_is_whole(folder, dataset):
    path = folder.root / "images" / "11.png"
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:-200])
    (problem,) = found(folder, dataset).problems
    assert problem.startswith(f"{path}: damaged image: image file is truncated")


def test_splits_of_one_list_of_images_share_what_both_annotate(folder, dataset):
    dataset = replace(dataset, train=part(folder, "a", [11]), val=part(folder, "b", [12]))
    assert found(folder, dataset).problems == ()
    findings = found(folder, replace(dataset, test=part(folder, "c", [12])))
    assert findings.problems == (f"{folder.root / 'images' / '12.png'}: is in dataset.val and in dataset.test",)
    assert findings.shared == 1


def test_a_copy_under_another_name_is_found_by_its_content(folder, dataset):
    images = folder.root / "images"
    folder.add(13, np.full((24, 32), 1, dtype=np.int32), [{"id": 1, "category_id": 7}])
    shutil.copy(images / "11.png", images / "13.png")
    dataset = replace(dataset, train=part(folder, "a", [11, 12]), val=part(folder, "b", [13]))
    assert found(folder, dataset).problems == (
        f"{images / '13.png'}: in dataset.val has the same content as {images / '11.png'} in dataset.train",
    )


def test_pictures_of_equal_length_in_bytes_may_differ(folder, dataset):
    images = folder.root / "images"
    folder.add(13, np.full((24, 32), 1, dtype=np.int32), [{"id": 1, "category_id": 7}])
    for name, gray in (("11.png", 10), ("13.png", 20)):
        Image.fromarray(np.full((24, 32), gray, np.uint8)).save(images / name, format="BMP")
    dataset = replace(dataset, train=part(folder, "a", [11, 12]), val=part(folder, "b", [13]))
    assert found(folder, dataset).problems == ()


def test_one_annotation_file_in_two_splits_is_one_problem_with_train_and_none_without(folder, dataset):
    assert found(folder, replace(dataset, test=dataset.val)).problems == ()
    findings = found(folder, replace(dataset, train=dataset.val))
    assert findings.problems == (f"{folder.json}: is the data of dataset.train and of dataset.val",)


def test_one_annotation_file_for_the_pictures_of_two_folders_is_no_problem(folder, dataset):
    others = folder.root / "others"
    shutil.copytree(folder.root / "images", others)
    for path in others.iterdir():
        Image.new("RGB", (32, 24), (1, 2, int(path.stem))).save(path)
    split = replace(dataset.val, images=f"{others}")
    assert found(folder, replace(dataset, train=split)).problems == ()


def test_the_pictures_of_a_damaged_file_are_not_compared(folder, dataset):
    other = folder.root / "other.json"
    other.write_text("{")
    findings = found(folder, replace(dataset, train=replace(dataset.val, annotations=f"{other}")))
    assert [checked.images for checked in findings.data_sets] == [0, 2]
    (problem,) = findings.problems
    assert problem.startswith(f"{other}:1:2: not JSON")


class Layers(Format):
    """A picture with two segments that overlap, and one that does not."""

    def open(self, labels):
        id_maps = np.zeros((2, 4, 6), dtype=np.int32)
        id_maps[0, :2], id_maps[1, 1:3], id_maps[0, 3] = 1, 2, 3
        segments = tuple(SegmentInfo(number, 0, True, False) for number in (1, 2, 3))
        return data_set([Sample("a", 1, np.zeros((4, 6, 3), np.uint8), id_maps, segments)])


def test_segments_that_overlap_where_the_format_permits_it_are_counted(folder, dataset, monkeypatch):
    installed = replace(registry.registry(), datasets={"layers": Dataset("layers", "a:b", ("instance",))})
    monkeypatch.setattr("oneformer_spec.plugins.registry.registry", lambda: installed)
    monkeypatch.setattr("oneformer_data.opening.loading.resolve", lambda target: Layers)
    findings = found(folder, replace(dataset, val=replace(dataset.val, type="layers")))
    assert [checked.overlapping for checked in findings.data_sets] == [2]
    assert findings.problems == ()


def test_files_stand_for_the_only_split(folder, dataset):
    spec = [f"dataset.train.annotations={folder.json}", f"dataset.test.annotations={folder.json}"]
    chosen = selected((), spec, data=dataset.val, label_map="labels.json")
    assert (chosen.train, chosen.val, chosen.test) == (Split(), dataset.val, Split())
    assert chosen.label_map == "labels.json"
    assert selected((), spec, data=Split()).train.annotations == f"{folder.json}"


def test_without_any_data_the_spec_is_wrong(label_map):
    with pytest.raises(SpecError, match="no split is set"):
        check.check(DatasetSection(label_map=label_map), print)
