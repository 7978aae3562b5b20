"""What every format gets from `FileFormat`, and how a format that a spec names is made."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import pytest
from PIL import Image

from oneformer_data.opening.loading import format_of, open_source, open_split
from oneformer_data.opening.sources import Source
from oneformer_data.shards.writing import write_shards
from oneformer_data.tools.check import check, source_problems
from oneformer_spec.errors import DataError, PluginError, SpecError
from oneformer_spec.hooks import Dataset
from oneformer_spec.labels import Labels
from oneformer_spec.loading.load import load_spec
from oneformer_spec.plugins.registry import registry
from oneformer_spec.schema import DatasetSection, Split

MODULE = """
from dataclasses import dataclass

import numpy as np

from oneformer_data import FileFormat, Sample, SegmentInfo
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import read_image


@dataclass(frozen=True)
class Record:
    image: str
    line: int
    corner: tuple[int, int]


class Corners(FileFormat[Record]):
    record_type = Record

    def __init__(self, source, *, value=1):
        super().__init__(source)
        if value == 99:
            raise RuntimeError("too\\nmuch")
        self.value = value

    def where(self, record):
        return f"{self.source.annotations}:{record.line}"

    def records(self, labels):
        with open(self.source.annotations) as lines:
            rows = [line.split() for line in lines]
        return [Record(row[0], number, (int(row[1]), int(row[2]))) for number, row in enumerate(rows, start=1)]

    def sample(self, record, files, labels):
        try:
            image = read_image(files["image"])
        except DataError as error:
            raise DataError(f"{error} ({self.where(record)})") from error
        ids = np.zeros((1, *image.shape[:2]), np.int32)
        ids[0, record.corner[0] :, record.corner[1] :] = self.value
        return Sample(record.image, record.line, image, ids, (SegmentInfo(self.value, 0, True, False),))


def function(source, labels):
    return []
"""
LABELS = Labels.parse([{"id": 4, "name": "corner"}], "here")


@dataclass(frozen=True)
class Options:
    value: int = 1


@pytest.fixture
def source(tmp_path, monkeypatch) -> Source:
    """Three images of 4 x 6, and a line for each."""
    (tmp_path / "corner_lines.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ONEFORMER_CACHE", f"{tmp_path / 'cache'}")
    for name in "abc":
        Image.new("RGB", (6, 4), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "lines.txt").write_text("a.png 1 2\nb.png 0 0\nc.png 3 5\n")
    return Source("dataset.val", f"{tmp_path / 'lines.txt'}", type="corner_lines:Corners")


def pixels(samples) -> list[int]:
    return [int((sample.id_maps > 0).sum()) for sample in samples]


def test_a_class_path_is_opened_and_checked(source, tmp_path):
    (tmp_path / "labels.json").write_text('[{"id": 4, "name": "corner"}]')
    overrides = [
        "model.sem_seg_head.num_classes=1",
        f"dataset.label_map={tmp_path / 'labels.json'}",
        f"dataset.train.annotations={source.annotations}",
        "dataset.train.type=corner_lines:Corners",
    ]
    dataset = load_spec([], overrides, task="train").spec.dataset
    assert pixels(open_split(dataset, "train", LABELS)) == [12, 24, 1]
    findings = check(dataset, print)
    assert (findings.data_sets[0].images, findings.problems) == (3, ())


def test_records_are_mapped_from_a_file_and_samples_go_to_other_processes(source):
    plain, mapped = open_source(source, LABELS), open_source(replace(source, serialized=True), LABELS)
    assert list(plain.records) == list(mapped.records)
    assert mapped.records[2].corner == (3, 5)
    assert pixels(pickle.loads(pickle.dumps(mapped))) == [12, 24, 1]


def test_problems_are_one_per_image_and_hide_none(source, tmp_path):
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"no image")
    problems = list(source_problems(source, LABELS))
    assert problems[0] == f"{tmp_path / 'a.png'}: does not exist ({source.annotations}:1)"
    assert problems[1].startswith(f"{tmp_path / 'b.png'}: is not an image")
    assert problems[1].endswith(f"({source.annotations}:2)")
    assert len(problems) == 2
    with pytest.raises(DataError) as raised:
        open_source(source, LABELS)
    assert str(raised.value) == problems[0]


def test_names_may_not_leave_their_folder(source, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "lines.txt").write_text("../a.png 0 0\n")
    outside = replace(source, annotations=f"{tmp_path / 'set' / 'lines.txt'}")
    [problem] = source_problems(outside, LABELS)
    assert problem.startswith("../a.png: leaves its folder")
    with pytest.raises(DataError, match=r"^\.\./a\.png: leaves its folder .*lines\.txt:1\)$"):
        open_source(outside, LABELS)
    assert pixels(open_source(replace(outside, allow_outside_root=True), LABELS)) == [24]


def test_images_of_two_splits_are_compared(source, tmp_path):
    (tmp_path / "more.txt").write_text("c.png 0 0\n")
    (tmp_path / "labels.json").write_text('[{"id": 4, "name": "corner"}]')
    train, val = (Split(annotations=f"{tmp_path / name}", type=source.type) for name in ("lines.txt", "more.txt"))
    findings = check(DatasetSection(label_map=f"{tmp_path / 'labels.json'}", train=train, val=val), print)
    assert findings.problems == (f"{tmp_path / 'c.png'}: is in dataset.train and in dataset.val",)
    assert [data_set.images for data_set in findings.data_sets] == [3, 1]


def installed(monkeypatch, name="corners") -> None:
    every = replace(registry(), datasets={name: Dataset(name, "corner_lines:Corners", ("instance",))})
    monkeypatch.setattr("oneformer_spec.plugins.registry.registry", lambda: every)


def test_options_reach_the_format_also_in_shards(source, monkeypatch, tmp_path):
    installed(monkeypatch)
    given = replace(source, type="corners", format_options={"corners": Options(7)})
    assert [sample.segments[0].id for sample in open_source(given, LABELS)] == [7, 7, 7]
    write_shards(given, LABELS, tmp_path / "out", size=10**6)
    shards = replace(given, annotations=f"{tmp_path / 'out' / 'shards.json'}", type=None)
    assert [sample.segments[0].id for sample in open_source(shards, LABELS)] == [7, 7, 7]
    assert pixels(open_source(shards, LABELS)) == [12, 24, 1]
    assert list(source_problems(shards, LABELS)) == []


def test_shards_name_no_class_that_would_be_imported(source, tmp_path):
    with pytest.raises(
        DataError, match=r"type: 'corner_lines:Corners' is not an installed format that consists of files"
    ):
        write_shards(source, LABELS, tmp_path / "out", size=10**6)


def test_a_format_that_fails_is_named(source):
    given = replace(source, format_options={source.type: Options(99)})
    with pytest.raises(PluginError, match=r"^dataset 'corner_lines:Corners' failed: RuntimeError: too much$"):
        format_of(given)
    with pytest.raises(
        PluginError, match=r"the format 'corner_lines:function' is not a subclass of oneformer_data\.For"
    ):
        format_of(replace(source, type="corner_lines:function"))
    with pytest.raises(PluginError, match=r"^dataset 'missing_module:Kind' failed: "):
        format_of(replace(source, type="missing_module:Kind"))


def test_annotations_without_classes_need_a_label_map(source):
    with pytest.raises(SpecError, match=r"^dataset\.label_map: is not set, and .*lines\.txt has no categories"):
        format_of(source).labels()
