from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from oneformer_data.formats.coco_instance import CocoInstance
from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.opening.sources import Source
from oneformer_data.sample import SegmentInfo
from oneformer_data.training.targets import targets
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels
from oneformer_spec.tasks import Task

LABELS = Labels.parse([{"id": 4, "name": "cell"}, {"id": 9, "name": "clump"}], source="labels")


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def document() -> dict:
    """A picture of 20 x 30 with two cells that overlap, a compressed and an uncompressed mask; and an empty one."""
    runs = np.zeros((20, 30), dtype=bool)
    runs[15:18, 20:28] = True
    packed = coco.encode(np.asfortranarray(runs, dtype=np.uint8))["counts"].decode()
    crowd = {"size": [20, 30], "counts": [0, 3, 597]}
    rows = [
        {"id": 7, "category_id": 4, "segmentation": rectangle(2, 2, 12, 10)},
        {"id": 8, "category_id": 4, "segmentation": rectangle(8, 6, 18, 14)},
        {"id": 9, "category_id": 9, "segmentation": {"size": [20, 30], "counts": packed}},
        {"id": 10, "category_id": 4, "segmentation": crowd, "iscrowd": 1},
    ]
    return {
        "images": [
            {"id": 1, "file_name": "a.PNG", "height": 20, "width": 30},
            {"id": 2, "file_name": "b.png", "height": 5, "width": 6},
        ],
        "annotations": [{"image_id": 1, **row} for row in rows],
        "categories": [{"id": 4, "name": "cell"}, {"id": 9, "name": "clump"}],
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    Image.new("RGBA", (30, 20), (9, 9, 9, 0)).save(tmp_path / "a.PNG")
    Image.new("L", (6, 5)).save(tmp_path / "b.png")
    return tmp_path


def source(folder: Path, document: object) -> Source:
    path = folder / "instances.json"
    path.write_text(json.dumps(document))
    return Source("dataset.val", f"{path}", f"{folder}")


def test_instances_keep_all_their_pixels(folder, document):
    samples = CocoInstance(source(folder, document)).open(LABELS)
    assert samples.tasks == (Task.INSTANCE,)
    sample = samples[0]
    assert (sample.name, sample.image_id, sample.image.shape) == ("a.PNG", 1, (20, 30, 3))
    assert len(sample.id_maps) == 2  # two layers hold the two that overlap
    pixels = value_counts(sample.id_maps)
    assert [pixels[number] for number in (1, 2, 3, 4)] == [80, 80, 24, 3]
    assert sample.segments[2] == SegmentInfo(3, class_index=1, isthing=True, is_crowd=False)
    assert sample.segments[3].is_crowd
    found = targets(sample, Task.INSTANCE)
    assert found.labels.tolist() == [0, 0, 1]
    assert (found.masks[0] & found.masks[1]).sum() == 16
    assert found.masks[2][15:18, 20:28].all()


def test_a_picture_without_objects_stays(folder, document):
    sample = CocoInstance(source(folder, document)).open(LABELS)[1]
    assert sample.id_maps.shape == (1, 5, 6)
    assert len(targets(sample, Task.INSTANCE).labels) == 0


def change(path: str, value: object):
    def act(document: dict) -> None:
        *keys, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        place = document
        for key in keys:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return act


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("annotations/0/id", 0, "annotations[0]: annotation id 0: an id must be an integer greater than 0"),
        ("annotations/1/id", 7, "annotation 7: the id occurs twice"),
        ("annotations/0/image_id", 5, "annotation 7: image 5 is not listed under 'images'"),
        ("annotations/0/category_id", 5, "image 1: annotation 7: category 5 is not in the label map"),
        ("annotations/0/iscrowd", 2, "image 1: annotation 7: iscrowd must be 0 or 1, found 2"),
        ("annotations/0/segmentation", None, "annotation 7: has no segmentation, so this is not a COCO instance file"),
        ("annotations/0/segmentation", [[1, 2, 3]], "annotation 7: polygon 0 has 3 numbers"),
        ("annotations/0/segmentation", [[10**400, 2, 3, 4, 5, 6]], "annotation 7: polygon 0 reaches to 1000"),
        (
            "annotations/0/segmentation",
            [[-60, 0, 60, 0] * 50_000],
            "annotation 7: polygons have outlines of 12000000 pixels, expected at most 10000000",
        ),
        ("annotations/3/segmentation/size", [30, 20], "annotation 10: the run lengths are of size [30, 20]"),
        ("annotations/0/segments_info", [], "is a COCO panoptic file, which needs its folder of PNG maps"),
        (
            "images/0/width",
            10**9,
            "image 1: has height 20 and width 1000000000, expected whole numbers from 1 to 65500",
        ),
        ("images/0/height", None, "image 1: has height None and width 30"),
        ("images/1/id", 1, "image 1: two images have the id 1"),
        ("images/0/file_name", "../a.PNG", "../a.PNG: leaves its folder"),
        ("images/0/file_name", "c.png", "c.png: does not exist"),
        ("categories/0/name", "cel", "category 4 is 'cel' here and 'cell' in the label map"),
        ("images", None, "has no list 'images' at its top"),
    ],
)
def test_what_is_wrong_is_named_when_it_is_opened_and_when_it_is_checked(folder, document, path, value, problem):
    change(path, value)(document)
    wrong = source(folder, document)
    with pytest.raises(DataError) as raised:
        CocoInstance(wrong).open(LABELS)
    assert problem in str(raised.value)
    assert any(problem in line for line in CocoInstance(wrong).problems(LABELS))


def test_pictures_and_masks_that_lie_are_found_when_they_are_read(folder, document):
    document["images"][0]["width"] = 31
    document["annotations"] = document["annotations"][:1]
    wrong = source(folder, document)
    expected = f"{folder}/a.PNG: the JSON says 31x20 but the image is 30x20 (image 1 of {wrong.annotations})"
    with pytest.raises(DataError) as raised:
        CocoInstance(wrong).open(LABELS)[0]
    assert str(raised.value) == expected
    assert list(CocoInstance(wrong).problems(LABELS)) == [expected]


def test_run_lengths_that_go_on_after_the_picture_are_found_when_they_are_drawn(folder, document):
    document["annotations"][2]["segmentation"]["counts"] = "PPYo10"
    wrong = source(folder, document)
    with pytest.raises(DataError, match=r"instances\.json: annotation 9: the .*run lengths .* \(image 1\)$"):
        CocoInstance(wrong).open(LABELS)[0]
    [line] = CocoInstance(wrong).problems(LABELS)
    assert "annotation 9" in line


def test_a_pile_of_objects_takes_bounded_memory(folder, document):
    row = document["annotations"][0]
    document["annotations"] = [{**row, "id": number} for number in range(1, 103)]
    wrong = source(folder, document)
    with pytest.raises(DataError, match=r"annotation 101: more than 100 objects lie on one place"):
        CocoInstance(wrong).open(LABELS)[0]
    assert [line.split(":")[0] for line in CocoInstance(wrong).problems(LABELS)] == ["annotation 101", "annotation 102"]


def test_a_mask_without_pixels_is_told_of(folder, document):
    document["annotations"][0]["segmentation"] = rectangle(3, 3, 3, 3)
    [line] = CocoInstance(source(folder, document)).problems(LABELS)
    assert line.startswith("annotation 7: its mask has no pixels (image 1 of ")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("coco_inst_open", "all"),
        ("coco_open", "val"),
        ("nuclei_few", "val"),
        ("coco_inst", "all"),
        ("coco_pan100", "val"),
        ("coco_pan3", "all"),
        ("nuclei", "val"),
    ],
)
def test_real_masks_are_those_of_pycocotools(data_set, name, split):
    from pycocotools.coco import COCO

    root = data_set(name)
    path = f"{root}/annotations/instances_{split}.json"
    reference = COCO(path)
    labels = Labels.parse(json.loads(Path(path).read_text())["categories"], source=path)
    samples = CocoInstance(Source("dataset.val", path, f"{root}/images")).open(labels)
    assert [sample.image_id for sample in samples] == [row["id"] for row in reference.dataset["images"]]
    for sample in samples:
        wanted = [row for row in reference.dataset["annotations"] if row["image_id"] == sample.image_id]
        assert [segment.is_crowd for segment in sample.segments] == [bool(row["iscrowd"]) for row in wanted]
        for number, row in enumerate(wanted, start=1):
            mask = (sample.id_maps == number).any(axis=0)
            np.testing.assert_array_equal(mask, reference.annToMask(row).astype(bool))
