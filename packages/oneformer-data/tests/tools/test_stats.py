"""`oneformer dataset stats`: numbers that can be counted by hand, and those of real data."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from oneformer_data.sample import Sample, SegmentInfo
from oneformer_data.tools.stats import Quantiles, Tally, stats, table
from oneformer_spec.errors import DataError
from oneformer_spec.schema import DatasetSection, Split


@pytest.fixture
def dataset(folder, labels):
    folder.save()
    path = folder.root / "labels.json"
    path.write_text(json.dumps(labels.rows()))
    source = folder.source
    split = Split(images=source.images, annotations=source.annotations, panoptic=source.panoptic)
    return DatasetSection(label_map=f"{path}", val=split)


def test_everything_is_counted(dataset):
    found = stats(dataset)["val"]
    square, ground = found.classes
    assert (found.images, found.pixels, found.void_pixels, found.overlapping_pixels) == (2, 2 * 24 * 32, 4 * 32, 0)
    assert (found.segments, found.crowds) == (6, 1)
    assert (square.images, square.segments, square.crowds) == (2, 4, 1)
    assert square.pixels == 80 + 140 + 64 + 100
    assert square.area == Quantiles.of([80, 140, 64])  # the crowd is no object
    assert (ground.images, ground.segments, ground.pixels) == (2, 2, 2 * 24 * 32 - square.pixels - found.void_pixels)


def test_the_document_has_shares_of_all_pixels(dataset):
    document = stats(dataset)["val"].document()
    assert document["void_share"] == pytest.approx(128 / 1536)
    assert [row["pixel_share"] for row in document["classes"]] == pytest.approx([384 / 1536, 1024 / 1536])
    assert document["width"] == {"min": 32, "p10": 32, "median": 32, "p90": 32, "max": 32}
    assert json.loads(json.dumps(document)) == document | {"classes": list(document["classes"])}


def test_overlapping_segments_keep_all_their_pixels(labels):
    id_maps = np.zeros((2, 4, 6), dtype=np.int32)
    id_maps[0, :2], id_maps[1, 1:3] = 1, 2
    tally = Tally(labels)
    segments = tuple(SegmentInfo(number, 0, True, False) for number in (1, 2))
    tally.add(Sample("a", 1, np.zeros((4, 6, 3), np.uint8), id_maps, segments))
    found = tally.result()
    assert (found.classes[0].pixels, found.overlapping_pixels, found.void_pixels) == (24, 6, 6)


def test_quantiles_lie_between_neighbours():
    assert Quantiles.of([10, 0, 20, 30, 40]) == Quantiles(0, 4, 20, 36, 40)
    assert Quantiles.of([]) is None


def test_the_table_has_a_row_per_split_and_per_class(dataset):
    assert table(stats(dataset)) == (
        "split  images  segments  crowds  void %  overlap %  width  height\n"
        "val         2         6       1    8.33       0.00     32      24\n"
        "\n"
        "val      kind  images  segments  crowds  pixels %  area 10 %  50 %  90 %\n"
        "square  thing       2         4       1     25.00         67    80   128\n"
        "ground  stuff       2         2       0     66.67        483   512   541"
    )


def test_a_class_without_a_segment_has_no_area(folder, dataset):
    for annotation in folder.document["annotations"]:
        for row in annotation["segments_info"]:
            row["category_id"] = 7
    folder.save()
    found = stats(dataset)
    assert found["val"].classes[0].area is None
    assert "square  thing       0         0       0      0.00          -     -     -" in table(found)


def test_wrong_data_is_one_error(folder, dataset):
    (folder.root / "panoptic" / "12.png").unlink()
    with pytest.raises(DataError, match=r"12\.png: does not exist"):
        stats(dataset)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("coco_open", "val"),
        ("nuclei_few", "val"),
        ("coco_pan3", "all"),
        ("coco_pan100", "val"),
        ("camvid", "train"),
        ("nuclei", "train"),
    ],
)
def test_real_data_gives_its_known_counts(data_set, name, split):
    root = data_set(name)
    annotations = root / "annotations" / f"panoptic_{split}.json"
    known = json.loads((root / "stats.json").read_text())["panoptic"]
    pictures = [known[str(row["image_id"])] for row in json.loads(annotations.read_text())["annotations"]]
    split_files = Split(images=f"{root}/images", annotations=f"{annotations}", panoptic=f"{root}/panoptic")
    found = stats(DatasetSection(label_map=f"{root}/label_map.json", val=split_files))["val"]
    for field in ("segments", "pixels"):
        expected: Counter[str] = Counter()
        for picture in pictures:
            expected.update(picture[f"{field}_per_class"])
        assert {str(row.id): getattr(row, field) for row in found.classes if row.segments} == dict(expected)
    assert found.void_pixels == sum(picture["void_pixels"] for picture in pictures)
    assert found.crowds == sum(picture["crowd_segments"] for picture in pictures)
    assert found.pixels == sum(picture["height"] * picture["width"] for picture in pictures)
