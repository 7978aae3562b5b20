"""`oneformer dataset convert`: what is written is what was there, all of it or nothing."""

from __future__ import annotations

import json
import os
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from oneformer_data.convert import annotations as any_format
from oneformer_data.convert.conversion import Annotated, convert
from oneformer_data.convert.outputs import OutputFormat
from oneformer_data.formats.id_png import read_classes, read_ids
from oneformer_data.formats.layers import flat_ids, stacked
from oneformer_data.opening.loading import open_source
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_data.shards.writing import write_shards
from oneformer_spec.errors import DataError, UsageError
from oneformer_spec.labels import Labels
from oneformer_spec.schema import Split


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


@pytest.fixture
def pictures(folder, labels):
    """Two pictures of 24 x 32 as a source; the second has a crowd and void."""
    samples = folder.open()
    loads = [partial(samples.__getitem__, index) for index in range(len(samples))]
    return Annotated(folder.root / "images", labels, loads, tuple(OutputFormat))


def written(pictures, output, **options):
    told: list[str] = []
    return convert(pictures, output, on_problem=told.append, **options), told


def source_of(report, format):
    return Source("dataset.val", **report.settings[format], type=f"coco_{format}")


def bad():
    raise DataError("a.png: is wrong")


def test_panoptic_annotations_are_read_back_as_they_were(pictures, output):
    report, _ = written(pictures, output)
    labels = Labels.read(report.label_map)
    assert labels == pictures.labels
    back = open_source(source_of(report, OutputFormat.PANOPTIC), labels)
    for load, sample in zip(pictures.loads, back, strict=True):
        expected = load()
        assert (sample.name, sample.image_id, sample.segments) == (expected.name, expected.image_id, expected.segments)
        assert (sample.id_maps == expected.id_maps).all()
        assert (sample.image == expected.image).all()


def test_panoptic_json_has_area_box_and_size(pictures, output):
    written(pictures, output, formats=[OutputFormat.PANOPTIC])
    document = json.loads((output / "panoptic.json").read_text())
    assert document["images"][0] == {"id": 11, "file_name": "11.png", "height": 24, "width": 32}
    assert document["annotations"][0]["segments_info"][1] == {
        "id": 5,
        "category_id": 3,
        "iscrowd": 0,
        "area": 80,
        "bbox": [2, 2, 10, 8],
    }
    assert document["categories"] == pictures.labels.rows()


def test_instances_are_the_things_with_their_crowds(pictures, output):
    written(pictures, output, formats=[OutputFormat.INSTANCE])
    document = json.loads((output / "instances.json").read_text())
    assert [row["name"] for row in document["categories"]] == ["square"]
    ids = {11: read_ids(pictures.images.parent / "panoptic" / "11.png")}
    ids[12] = read_ids(pictures.images.parent / "panoptic" / "12.png")
    found = [(row["id"], row["image_id"], row["iscrowd"]) for row in document["annotations"]]
    assert found == [(1, 11, 0), (2, 11, 0), (3, 12, 0), (4, 12, 1)]
    for row, segment in zip(document["annotations"], (5, 300, 1, 2), strict=True):
        mask = ids[row["image_id"]] == segment
        assert compressed({"segmentation": {"size": [24, 32], "counts": runs(mask)}}) == row["segmentation"]["counts"]
        assert row["area"] == mask.sum()
        assert row["bbox"] == coco.toBbox(row["segmentation"]).tolist()


def test_a_semantic_mask_holds_category_ids_and_0_for_void(pictures, output):
    report, _ = written(pictures, output, formats=[OutputFormat.SEMANTIC])
    root = Path(report.settings[OutputFormat.SEMANTIC]["images"])
    lines = [json.loads(line) for line in (output / "semantic.jsonl").read_text().splitlines()]
    assert [line["img"] for line in lines] == ["images/11.png", "images/12.png"]
    expected = np.full((24, 32), 7)
    expected[0:8, 0:8] = expected[10:20, 10:20] = 3
    expected[20:24] = 0
    assert (read_classes(root / lines[1]["segm"]) == expected).all()
    assert (root / lines[1]["img"]).samefile(pictures.images / "12.png")


def test_masks_of_large_category_ids_have_16_bits(folder, output):
    labels = Labels.parse([{"id": 3, "name": "square"}, {"id": 40_000, "name": "ground"}], source="labels")
    samples = folder.open()
    written(Annotated(folder.root / "images", labels, [partial(samples.__getitem__, 0)], tuple(OutputFormat)), output)
    assert set(np.unique(read_classes(output / "semantic" / "11.png"))) == {3, 40_000}
    labels = Labels.parse([{"id": 70_000, "name": "ground"}], source="labels")
    with pytest.raises(DataError, match="category 70000: does not fit into a 16-bit mask"):
        written(Annotated(folder.root / "images", labels, (), tuple(OutputFormat)), output / "more")


@pytest.mark.parametrize("format", [OutputFormat.INSTANCE, OutputFormat.SEMANTIC])
def test_other_formats_are_read_back_by_their_readers(pictures, output, format):
    module = {OutputFormat.INSTANCE: "coco_instance", OutputFormat.SEMANTIC: "semantic_jsonl"}[format]
    report, _ = written(pictures, output)
    source = Source("dataset.val", **report.settings[format], type=module)
    for load, sample in zip(pictures.loads, open_source(source, pictures.labels), strict=True):
        expected = load()
        kept = [segment for segment in expected.segments if format is OutputFormat.SEMANTIC or segment.isthing]
        for index in range(len(pictures.labels)):
            ids = [segment.id for segment in kept if segment.class_index == index]
            back = [segment.id for segment in sample.segments if segment.class_index == index]
            mask = np.isin(sample.id_maps, back).any(axis=0)
            assert (mask == np.isin(expected.id_maps[0], ids)).all()
        if format is OutputFormat.INSTANCE:
            assert [segment.is_crowd for segment in sample.segments] == [segment.is_crowd for segment in kept]


def test_of_overlapping_segments_the_smaller_lies_on_top_and_instances_stay_whole(labels, tmp_path, output):
    masks = [np.zeros((6, 8), dtype=bool) for _ in range(3)]
    masks[0][1:3, 1:3], masks[1][:4], masks[2][5] = True, True, True
    segments = tuple(SegmentInfo(number, 0, True, False) for number in (1, 2, 3))
    sample = Sample("a.png", 1, np.zeros((6, 8, 3), np.uint8), stacked(masks, (6, 8)), segments)
    assert len(sample.id_maps) == 2
    flat = flat_ids(sample)
    assert ((flat == 1) == masks[0]).all() and ((flat == 2) == masks[1] & ~masks[0]).all()
    written(Annotated(tmp_path, labels, [lambda: sample], tuple(OutputFormat)), output)
    rows = json.loads((output / "instances.json").read_text())["annotations"]
    assert [row["area"] for row in rows] == [4, 32, 8]
    (annotation,) = json.loads((output / "panoptic.json").read_text())["annotations"]
    assert [row["area"] for row in annotation["segments_info"]] == [4, 28, 8]


def test_a_segment_hidden_by_a_smaller_one_has_no_entry(labels, tmp_path, output):
    masks = [np.ones((4, 4), dtype=bool), np.ones((4, 4), dtype=bool)]
    segments = tuple(SegmentInfo(number, 0, True, False) for number in (1, 2))
    sample = Sample("a.png", 1, np.zeros((4, 4, 3), np.uint8), stacked(masks, (4, 4)), segments)
    written(Annotated(tmp_path, labels, [lambda: sample], tuple(OutputFormat)), output)
    (annotation,) = json.loads((output / "panoptic.json").read_text())["annotations"]
    assert [row["id"] for row in annotation["segments_info"]] == [2]


def test_one_wrong_picture_and_nothing_is_written_but_every_problem_is_told(pictures, output, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    told: list[str] = []
    with pytest.raises(DataError, match=r"^2 of 4 images cannot be converted, so nothing was written; --skip-bad"):
        convert(Annotated(pictures.images, pictures.labels, [bad, *pictures.loads, bad], tuple(OutputFormat)), output,
                on_problem=told.append)  # fmt: skip
    assert told == ["a.png: is wrong"] * 2
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_pictures_are_left_out_when_asked_for(pictures, output):
    some = Annotated(pictures.images, pictures.labels, [bad, pictures.loads[1]], tuple(OutputFormat))
    report, told = written(some, output, skip_bad=True)
    assert (report.images, report.skipped, told) == (1, 1, ["a.png: is wrong"])
    assert [row["id"] for row in json.loads((output / "instances.json").read_text())["images"]] == [12]
    with pytest.raises(DataError, match=r"^1 of 1 images cannot be converted, so nothing was written$"):
        written(Annotated(pictures.images, pictures.labels, [bad], tuple(OutputFormat)), output / "none", skip_bad=True)


def test_files_are_replaced_only_when_asked_for_and_others_stay(pictures, output):
    written(pictures, output, formats=[OutputFormat.SEMANTIC])
    other = output / "semantic" / "other.png"
    other.write_bytes(b"mine")
    content = (output / "semantic.jsonl").read_bytes()
    (output / "semantic.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"label_map\.json: exists; replace it with --force"):
        written(pictures, output, formats=[OutputFormat.SEMANTIC])
    assert (output / "semantic.jsonl").read_text() == ""
    written(pictures, output, formats=[OutputFormat.SEMANTIC], force=True)
    assert (output / "semantic.jsonl").read_bytes() == content
    assert other.read_bytes() == b"mine"


def test_the_output_must_be_a_folder_that_can_be_written(pictures, output):
    output.write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        written(pictures, output)
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        written(pictures, output / "below" / "a")


def test_a_stopped_conversion_leaves_nothing(pictures, output, tmp_path):
    def stop():
        raise KeyboardInterrupt

    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        written(Annotated(pictures.images, pictures.labels, [*pictures.loads, stop], tuple(OutputFormat)), output)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_index_file_appears_after_the_files_that_it_names(pictures, output, monkeypatch):
    moved: list[str] = []

    def replace(old, new):
        if Path(new).is_relative_to(output):
            moved.append(Path(new).relative_to(output).as_posix())
        os_replace(old, new)

    os_replace = os.replace
    monkeypatch.setattr("os.replace", replace)
    written(pictures, output)
    assert len(moved) == 2 * 2 + 4
    assert all(name.endswith(".png") for name in moved[:4])


def test_two_pictures_that_would_share_a_png_are_told(labels, tmp_path, output):
    def sample(name):
        return Sample(name, 1, np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.int32), ())

    loads = [partial(sample, name) for name in ("a/b.jpg", "b.jpg", "a/b.png", "b.jpg")]
    told: list[str] = []
    with pytest.raises(DataError, match="2 of 4 images"):
        convert(Annotated(tmp_path, labels, loads, tuple(OutputFormat)), output, on_problem=told.append)
    assert told == ["a/b.png: and a/b.jpg would share the file a/b.png", "b.jpg: has two annotations"]


def panoptic_source(folder, label_map):
    source = folder.source
    split = Split(type="coco_panoptic", images=source.images, annotations=source.annotations, panoptic=source.panoptic)
    return any_format.read(split, label_map=label_map, without=(OutputFormat.PANOPTIC,))


def test_panoptic_annotations_suffice_for_what_they_hold(folder, tmp_path, output):
    folder.save()
    path = tmp_path / "labels.json"
    rows = [{"id": 3, "name": "square", "isthing": 1}, {"id": 7, "name": "ground", "isthing": 0}]
    path.write_text(json.dumps(rows))
    pictures = panoptic_source(folder, f"{path}")
    assert pictures.formats == (OutputFormat.INSTANCE, OutputFormat.SEMANTIC)
    with pytest.raises(
        UsageError, match=r"--to panoptic: these annotations can only be written as instance, semantic$"
    ):
        written(pictures, output, formats=[OutputFormat.PANOPTIC])
    path.write_text(json.dumps([{**row, "isthing": 0} for row in rows]))
    assert panoptic_source(folder, f"{path}").formats == (OutputFormat.SEMANTIC,)


@pytest.mark.parametrize(
    ("type", "becomes"),
    [
        ("coco_panoptic", ("panoptic", "instance", "semantic")),
        ("coco_instance", ("instance",)),
        ("semantic_jsonl", ("semantic",)),
    ],
)
def test_any_format_is_a_source_for_what_it_holds(formats, labels, tmp_path, output, type, becomes):
    (tmp_path / "labels.json").write_text(json.dumps(labels.rows()))
    source = formats[type]
    split = Split(images=source.images, annotations=source.annotations, panoptic=source.panoptic)
    report, _ = written(any_format.read(split, label_map=f"{tmp_path / 'labels.json'}"), output)
    assert tuple(report.settings) == becomes
    written_format = OutputFormat(becomes[-1])
    settings = report.settings[written_format]
    names = [sample.name for sample in open_source(Source("dataset.val", **settings), labels)]
    assert len(names) == len(open_source(source, labels))


def test_shards_are_no_source(formats, labels, tmp_path):
    write_shards(formats["coco_panoptic"], labels, tmp_path / "out", size=10**6)
    with pytest.raises(UsageError, match="its images are not files"):
        any_format.read(Split(annotations=f"{tmp_path / 'out' / 'shards.json'}"), label_map=None)


def test_a_panoptic_name_may_not_leave_its_folder(folder, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([{"id": 3, "name": "square"}, {"id": 7, "name": "ground"}]))
    folder.document["images"][0]["file_name"] = "../11.png"
    folder.save()
    with pytest.raises(DataError, match="leaves its folder"):
        panoptic_source(folder, f"{path}")


@pytest.mark.parametrize("name", ["nuclei_few", "coco_open", "nuclei", "coco_pan100"])
def test_real_data_gives_what_the_reference_tool_gave(data_set, output, name):
    root = data_set(name)
    annotations = root / "annotations"
    split = Split(images=f"{root}/images", annotations=f"{annotations}/panoptic_val.json", panoptic=f"{root}/panoptic")
    pictures = any_format.read(split, label_map=f"{root}/label_map.json", without=(OutputFormat.PANOPTIC,))
    written(pictures, output)
    masks = list((output / "semantic").rglob("*.png"))
    assert len(masks) == len(pictures.loads)
    for path in masks:
        assert (np.asarray(Image.open(path)) == np.asarray(Image.open(root / "semantic" / path.name))).all()
    found, expected = (
        {
            (row["image_id"], row["category_id"], row["iscrowd"], row["area"], *row["bbox"]): compressed(row)
            for row in json.loads(path.read_text())["annotations"]
        }
        for path in (output / "instances.json", annotations / "instances_val.json")
    )
    assert found == expected != {}


def runs(mask):
    """Count the equal pixels in a row, down the columns, beginning with those outside."""
    lengths = [(inside, len(list(group))) for inside, group in groupby(mask.T.ravel().tolist())]
    return [0] * lengths[0][0] + [length for _, length in lengths]


def compressed(row):
    rle = row["segmentation"]
    return rle["counts"] if isinstance(rle["counts"], str) else coco.frPyObjects(rle, *rle["size"])["counts"].decode()
