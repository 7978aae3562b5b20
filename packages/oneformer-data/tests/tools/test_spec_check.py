"""`oneformer validate --data` lists every problem, where opening a data set stops at the first."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from oneformer_data.formats.coco_panoptic import CocoPanoptic
from oneformer_data.formats.id_png import read_ids, write_ids
from oneformer_data.opening.format import Format
from oneformer_data.tools import check
from oneformer_spec.errors import SpecError
from oneformer_spec.hooks import Dataset
from oneformer_spec.loading.load import load_spec
from oneformer_spec.plugins import registry


@pytest.fixture
def overrides(folder):
    label_map = folder.root / "labels.json"
    label_map.write_text(
        json.dumps([{"id": 3, "name": "square", "isthing": 1}, {"id": 7, "name": "ground", "isthing": 0}])
    )
    source = folder.source
    return [
        f"dataset.label_map={label_map}",
        "model.sem_seg_head.num_classes=2",
        f"dataset.val.images={source.images}",
        f"dataset.val.annotations={source.annotations}",
        f"dataset.val.panoptic={source.panoptic}",
    ]


def found(folder, overrides):
    folder.save()
    return list(check.problems(load_spec([], overrides).spec))


def test_good_data_has_none(folder, overrides):
    assert found(folder, overrides) == []


def test_all_of_them_are_told_at_once(folder, overrides):
    first, second = folder.document["annotations"]
    first["segments_info"][1].update(id=0, category_id=3)  # id 5 keeps its pixels and has no entry now
    second["segments_info"][1]["category_id"] = 4
    folder.document["images"].append(dict(folder.document["images"][0]))
    folder.add(13, np.full((6, 4), 1, dtype=np.int32), [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 7}])
    folder.add(14, np.full((6, 4), 1, dtype=np.int32), [{"id": 1, "category_id": 7}])
    folder.document["annotations"][3]["file_name"] = "../panoptic.png"
    folder.add(15, np.full((6, 4), 1, dtype=np.int32), [{"id": 1, "category_id": 7}])
    pictures, maps = folder.root / "images", folder.root / "panoptic"
    write_ids(maps / "13.png", np.full((4, 6), 1, dtype=np.int32))
    (pictures / "12.png").write_bytes((pictures / "12.png").read_bytes()[:60])
    (pictures / "15.png").unlink()
    (maps / "15.png").unlink()
    item = f"of {folder.json})"
    assert found(folder, overrides) == [
        f"{folder.json}: image 11: two images have the id 11",
        f"{folder.json}: image 11: two images have the file_name '11.png'",
        f"{folder.json}: image 11: segment 0: an id must be an integer from 1 to 16777215",
        f"{folder.json}: image 12: segment 1: category 4 is not in the label map",
        f"{maps / '11.png'}: id 5 (80 pixels) has no entry in segments_info (image 11 {item}",
        f"{pictures / '12.png'}: damaged image: image file is truncated (image 12 {item}",
        f"{maps / '13.png'}: is 6x4 but the image is 4x6 in the orientation that its EXIF data asks for"
        f" (image 13 {item}",
        f"{maps / '13.png'}: segment 2 of segments_info has no pixels (image 13 {item}",
        f"../panoptic.png: leaves its folder {maps}; dataset.allow_outside_root=true permits that (image 14 {item}",
        f"{pictures / '15.png'}: does not exist (image 15 {item}",
        f"{maps / '15.png'}: does not exist (image 15 {item}",
    ]


@pytest.mark.parametrize("field", ["id", "image_id", "file_name", "segments_info"])
@pytest.mark.parametrize("value", [None, True, -1, 1.5, "x", [], {}, [[]], [{"id": []}], [None]])
@pytest.mark.parametrize("rows", ["images", "annotations"])
def test_anything_in_a_field_is_a_problem_or_can_be_read(folder, overrides, rows, field, value):
    folder.document[rows][0][field] = value
    problems = found(folder, overrides)
    if problems:
        assert [line for line in problems if not line.startswith(str(folder.root))] == []
    else:
        assert [sample.size for sample in folder.open()][-1] == (24, 32)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [], "annotations": []}', "{", "\x00"])
def test_a_file_without_annotations_is_one_problem(folder, overrides, text):
    folder.json.write_text(text)
    (line,) = check.problems(load_spec([], overrides).spec)
    assert line.startswith(f"{folder.json}:")


def test_every_split_and_every_entry_of_its_lists_is_checked_once(folder, overrides):
    (folder.root / "panoptic" / "11.png").unlink()
    source = folder.source
    train = [
        f"dataset.train.annotations=[{source.annotations}, {source.annotations}]",
        f"dataset.train.images={source.images}",
        f"dataset.train.panoptic={source.panoptic}",
    ]
    assert len(found(folder, [*overrides, *train])) == 2


def test_the_reader_finds_what_the_check_finds_first(folder, overrides):
    ids = read_ids(folder.root / "panoptic" / "11.png")
    ids[0, 0] = 8
    write_ids(folder.root / "panoptic" / "11.png", ids)
    (line,) = found(folder, overrides)
    with pytest.raises(Exception, match="id 8") as raised:
        folder.open()[0]
    assert str(raised.value) == line


def test_a_wrong_label_map_is_a_problem(folder, overrides):
    spec = load_spec([], overrides).spec
    (folder.root / "labels.json").write_text("[]")
    (line,) = check.problems(spec)
    assert line.startswith(f"{folder.root / 'labels.json'}: ")


def test_nothing_to_check_is_a_mistake_of_the_spec(overrides):
    with pytest.raises(SpecError, match="no split is set"):
        list(check.problems(load_spec([]).spec))
    with pytest.raises(SpecError, match=r"dataset\.val\.panoptic: is not set"):
        list(check.problems(load_spec([], [*overrides[:-1], "dataset.val.type=coco_panoptic"]).spec))


class Plain(Format):
    """Panoptic data in a format that can only open them."""

    def open(self, labels):
        return CocoPanoptic(self.source).open(labels)


def test_a_format_that_can_only_open_is_read_sample_by_sample(folder, overrides, monkeypatch):
    for name in ("11.png", "12.png"):
        (folder.root / "images" / name).write_bytes(b"no picture")
    plain = Dataset("plain", f"{__name__}:Plain", ("panoptic",))
    installed = replace(registry.registry(), datasets={"plain": plain})
    monkeypatch.setattr("oneformer_spec.plugins.registry.registry", lambda: installed)
    monkeypatch.setattr("oneformer_data.opening.loading.resolve", lambda target: Plain)
    folder.save()
    loaded = load_spec([], overrides).spec
    spec = replace(loaded, dataset=replace(loaded.dataset, val=replace(loaded.dataset.val, type="plain")))
    assert len(list(check.problems(spec))) == 2
    findings = check.check(spec.dataset, print)
    assert findings.data_sets[0].images == 2
    (folder.root / "panoptic" / "11.png").unlink()
    assert len(list(check.problems(spec))) == 1  # opening stops at it
    assert check.check(spec.dataset, print).data_sets[0].images == 0


def test_it_imports_no_torch():
    code = (
        "import sys\nfrom oneformer_spec.plugins.registry import registry, resolve\n"
        "import oneformer_data.tools.check\nresolve(registry().datasets['coco_panoptic'].target)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
