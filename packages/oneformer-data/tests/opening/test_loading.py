from __future__ import annotations

import json
from dataclasses import replace

import pytest

from oneformer_data.datasets import Concatenation
from oneformer_data.opening.loading import open_split, read_label_map, read_labels
from oneformer_data.opening.sources import is_set, sources
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.schema import DatasetSection, Spec, Split

ROWS = [{"id": 2, "name": "b", "isthing": 0}, {"id": 1, "name": "a", "isthing": 1}]


def dataset(folder, **fields) -> DatasetSection:
    split = Split(images=f"{folder.root}/images", annotations=f"{folder.json}", panoptic=f"{folder.root}/panoptic")
    return DatasetSection(val=replace(split, **fields))


def test_a_split_is_opened_by_the_reader_of_its_type(folder, labels):
    assert len(open_split(dataset(folder), "val", labels)) == 2
    assert len(open_split(dataset(folder, type="coco_panoptic"), "val", labels)) == 2


def test_lists_of_paths_become_one_data_set(folder, labels):
    samples = open_split(dataset(folder, annotations=(f"{folder.json}",) * 3), "val", labels)
    assert isinstance(samples, Concatenation)
    assert [sample.name for sample in samples] == [
        f"{part}_panoptic/{name}.png" for part in range(3) for name in (11, 12)
    ]
    assert samples[-1].name == "2_panoptic/12.png"
    assert [sample.name for sample in samples[1:3]] == ["0_panoptic/12.png", "1_panoptic/11.png"]
    with pytest.raises(IndexError):
        samples[6]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"annotations": None}, "dataset.val.annotations: is not set"),
        ({"images": None}, "dataset.val.images: is not set; {json} needs it"),
        (
            {"annotations": "labels.txt", "panoptic": None},
            "dataset.val.type: is not set, and the name of labels.txt does not show the format; recognised are "
            ".json as coco_instance, .json with dataset.val.panoptic as coco_panoptic, .jsonl as semantic_jsonl, "
            ".tar and shards.json as webdataset",
        ),
        (
            {"type": "magic"},
            "dataset.val.type: 'magic' is not installed; available: coco_instance, coco_panoptic, semantic_jsonl, "
            "webdataset",
        ),
        (
            {"annotations": ("a", "b", "c"), "panoptic": ("d", "e")},
            "dataset.val.panoptic: has 2 entries where another list has 3",
        ),
    ],
)
def test_a_split_that_cannot_be_opened_is_a_mistake_of_the_spec(folder, labels, monkeypatch, fields, problem):
    monkeypatch.chdir(folder.root)
    (folder.root / "labels.txt").touch()
    with pytest.raises(SpecError) as raised:
        open_split(dataset(folder, **fields), "val", labels)
    assert str(raised.value) == problem.format(json=folder.json)


def test_a_missing_annotation_file_does_not_exist(folder, labels):
    with pytest.raises(DataError, match=r"^/nowhere\.json: does not exist \(dataset\.val\.annotations\)$"):
        open_split(dataset(folder, annotations="/nowhere.json"), "val", labels)


def test_a_split_without_paths_is_not_set(folder):
    assert is_set(dataset(folder).val)
    assert not is_set(dataset(folder).test)


def label_map(tmp_path, rows, **fields) -> DatasetSection:
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    return DatasetSection(label_map=f"{tmp_path / 'labels.json'}", **fields)


def test_the_class_index_is_the_position_or_the_id_less_one(tmp_path):
    assert read_label_map(label_map(tmp_path, ROWS)).names == ("b", "a")
    assert read_label_map(label_map(tmp_path, ROWS, contiguous_id=False)).names == ("a", "b")


def test_ids_that_leave_gaps_need_contiguous_id(tmp_path):
    rows = [{**row, "id": row["id"] * 10} for row in ROWS]
    assert len(read_label_map(label_map(tmp_path, rows))) == 2
    with pytest.raises(
        SpecError, match=r"^dataset\.contiguous_id: false needs the category ids 1\.\.2 in .* has 10, 20$"
    ):
        read_label_map(label_map(tmp_path, rows, contiguous_id=False))


def test_the_number_of_classes_must_be_that_of_the_label_map(tmp_path):
    with pytest.raises(SpecError, match=r"^model\.sem_seg_head\.num_classes: is 133, but .* has 2 categories$"):
        read_labels(replace(Spec(), dataset=label_map(tmp_path, ROWS)))


def test_annotations_can_bring_the_classes(folder, labels):
    folder.document["categories"] = labels.rows()
    folder.save()
    assert read_label_map(dataset(folder)).names == ("square", "ground")
    folder.document["categories"] = [{"id": 1, "name": "cell", "supercategory": "thing"}]
    folder.save()
    assert read_label_map(dataset(folder))[0].isthing


def test_something_must_name_the_classes(folder):
    with pytest.raises(SpecError, match=r"^dataset\.label_map: is not set, and no annotations that could name the cl"):
        read_label_map(DatasetSection())
    folder.document.pop("categories", None)
    folder.save()
    with pytest.raises(SpecError, match=r"^dataset\.label_map: is not set, and .*panoptic\.json has no categories"):
        read_label_map(dataset(folder))


@pytest.mark.parametrize(
    ("category", "problem"),
    [
        ({"id": 3, "name": "cube"}, "category 3 is 'cube' here and 'square' in the label map"),
        ({"id": 4, "name": "square"}, "category 'square' has the id 4 here and 3 in the label map"),
    ],
)
def test_label_map_and_categories_must_agree(folder, labels, category, problem):
    folder.document["categories"] = [category]
    folder.save()
    with pytest.raises(DataError) as raised:
        open_split(dataset(folder), "val", labels)
    assert str(raised.value) == f"{folder.json}: {problem}"


def test_data_sets_of_a_list_have_names(folder):
    two = (f"{folder.json}", f"{folder.root}/other.json")
    assert [source.name for source in sources(dataset(folder, annotations=two), "val")] == ["panoptic", "other"]
    same = (f"{folder.json}", f"{folder.json}")
    assert [source.name for source in sources(dataset(folder, annotations=same), "val")] == ["0_panoptic", "1_panoptic"]
    named = dataset(folder, annotations=two, names=("city", "field"))
    assert [source.name for source in sources(named, "val")] == ["city", "field"]
    for names, problem in (
        ("city", "has 1 entries for 2 data sets"),
        (("a", "a"), "two data sets have one name: a, a"),
    ):
        with pytest.raises(SpecError, match=rf"^dataset\.val\.names: {problem}$"):
            sources(dataset(folder, annotations=two, names=names), "val")
