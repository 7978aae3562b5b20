"""`check_dataset` passes the built-in formats, and finds what a format does wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from oneformer_data.datasets import data_set
from oneformer_data.opening.format import FileFormat, Format
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_data.testing import check_dataset
from oneformer_spec.errors import PluginError
from oneformer_spec.files.images import read_image
from oneformer_spec.hooks import Dataset
from oneformer_spec.labels import Labels
from oneformer_spec.plugins.registry import registry


@pytest.mark.parametrize("type", ["coco_panoptic", "coco_instance", "semantic_jsonl"])
def test_the_built_in_formats_keep_the_contract(formats, labels, type):
    source = formats[type]
    check_dataset(
        registry().datasets[type], source.annotations, images=source.images, panoptic=source.panoptic, labels=labels
    )


def test_so_do_shards(formats, labels, tmp_path):
    from oneformer_data.shards.writing import write_shards

    write_shards(formats["coco_panoptic"], labels, tmp_path / "out", size=10**6)
    check_dataset(registry().datasets["webdataset"], f"{tmp_path / 'out' / 'shards.json'}")


@dataclass(frozen=True)
class Record:
    """An image and the id of its category."""

    image: str
    category: int


class Whole(FileFormat[Record]):
    """A line per image, `name category`: the whole image is one segment."""

    record_type = Record

    def labels(self) -> Labels:
        return Labels.parse([{"id": 4, "name": "day"}, {"id": 9, "name": "night"}], "here")

    def records(self, labels: Labels) -> list[Record]:
        with open(self.source.annotations) as lines:
            pairs = [line.split() for line in lines]
        return [Record(name, int(number)) for name, number in pairs]

    def sample(self, record, files, labels) -> Sample:
        image = read_image(files["image"])
        segment = SegmentInfo(1, labels.indices[record.category], True, False)
        return Sample(record.image, record.image, image, np.ones((1, *image.shape[:2]), np.int32), (segment,))


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Return a function that checks a format of the lines of two images."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (6, 4)).save(tmp_path / name)
    path = tmp_path / "lines.txt"
    path.write_text("a.png 4\nb.png 9\n")

    def run(kind: object, tasks=("instance", "semantic")) -> None:
        declared = Dataset("whole", "a:b", tasks)
        installed = replace(registry(), datasets={"whole": declared})
        monkeypatch.setattr("oneformer_spec.plugins.registry.registry", lambda: installed)
        monkeypatch.setattr("oneformer_data.opening.loading.resolve", lambda target: kind)
        check_dataset(declared, str(path))

    return run


def test_a_format_that_is_right(check):
    check(Whole)


class OpensAtOnce(Whole):
    def __init__(self, source):
        super().__init__(source)
        open(source.annotations).close()


class ReturnsAList(Whole):
    def open(self, labels):
        return [*super().open(labels)]


class Empty(Whole):
    def records(self, labels):
        return []


class KeepsClassIndices(Whole):
    def records(self, labels):
        return [Record(record.image, labels.indices[record.category]) for record in super().records(labels)]

    def sample(self, record, files, labels):
        return super().sample(Record(record.image, labels[record.category].id), files, labels)


class Altered(Whole):
    """A format whose samples are changed by `change`."""

    def sample(self, record, files, labels):
        return self.change(super().sample(record, files, labels))


class Gray(Altered):
    def change(self, sample):
        return replace(sample, image=sample.image[..., 0])


class Flat(Altered):
    def change(self, sample):
        return replace(sample, id_maps=sample.id_maps[0])


class WithoutSegments(Altered):
    def change(self, sample):
        return replace(sample, segments=())


class TwoLayers(Altered):
    def change(self, sample):
        return replace(sample, id_maps=np.concatenate([sample.id_maps, sample.id_maps]))


class Stuff(Altered):
    def change(self, sample):
        return replace(sample, segments=(replace(sample.segments[0], isthing=False),))


class FarClass(Altered):
    def change(self, sample):
        return replace(sample, segments=(replace(sample.segments[0], class_index=2),))


class OneName(Altered):
    def change(self, sample):
        return replace(sample, name="a")


class Counting(Altered):
    number = 0

    def change(self, sample):
        Counting.number += 1
        return replace(sample, image=np.full_like(sample.image, Counting.number % 256))


class FindsProblems(Whole):
    def problems(self, labels) -> Iterator[str]:
        yield "something"


class LosesNumbers(Whole):
    @classmethod
    def from_row(cls, row):
        return Record(row[0], 4)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (ReturnsAList, "open returns list, expected a DataSet"),
        (Empty, "the data set to check with is empty"),
        (Gray, "image is uint8 (4, 6)"),
        (Flat, "id_maps is int32 (4, 6), expected int32 (L, 4, 6)"),
        (WithoutSegments, "id_maps hold the ids [1], the segments have []"),
        (TwoLayers, "a segment lies in two layers of id_maps"),
        (Stuff, "segment 1: isthing is another one"),
        (FarClass, "segment 1 has the class 2 of 2"),
        (OneName, "two samples have one name"),
        (Counting, "a sample differs when it is read again"),
        (FindsProblems, "problems finds some where opening finds none"),
        (LosesNumbers, "records differ with dataset_type: serialized"),
        (KeepsClassIndices, "a record in tar shards holds class indices"),
    ],
)
def test_what_is_wrong_is_named(check, kind, problem):
    with pytest.raises(AssertionError) as raised:
        check(kind)
    assert problem in str(raised.value)


def test_making_a_format_opens_no_file(check):
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        check(OpensAtOnce)


@pytest.mark.parametrize("tasks", [(), ("depth",)])
def test_tasks_are_declared_and_known(check, tasks):
    with pytest.raises(AssertionError, match="tasks"):
        check(Whole, tasks)


def test_a_task_that_is_not_declared(check):
    class More(Whole):
        def tasks(self, labels):
            from oneformer_spec.tasks import TASKS

            return TASKS

    with pytest.raises(AssertionError, match=r"allows .*'panoptic'.*, declares"):
        check(More)


def test_a_format_is_a_subclass(check):
    with pytest.raises(PluginError, match=r"^a:b: the format 'whole' is not a subclass of oneformer_data\.Format$"):
        check(lambda source, labels: [])


def test_a_format_that_can_only_open_is_enough(check):
    class Plain(Format):
        def labels(self):
            return Whole.labels(self)

        def open(self, labels):
            sample = Sample("a", 1, np.zeros((4, 6, 3), np.uint8), np.zeros((1, 4, 6), np.int32), ())
            return data_set([sample])

    check(Plain, ("semantic", "instance", "panoptic"))


def test_a_record_of_another_shape_in_shards_is_refused(check, tmp_path):
    from oneformer_data.opening.sources import Source
    from oneformer_spec.errors import DataError

    format = Whole(Source("shards", "0.json", type="whole"))
    assert format.record({"image": "a.png", "category": 4}, format.labels()) == Record("a.png", 4)
    for document in ([], {"image": "a.png"}, json.loads("3")):
        with pytest.raises(DataError, match=r"^0\.json: expected an object with image, category$"):
            format.record(document, format.labels())
