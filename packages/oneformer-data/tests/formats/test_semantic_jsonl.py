from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneformer_data.formats.semantic_jsonl import SemanticJsonl
from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.opening.sources import Source
from oneformer_data.training.targets import targets
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels
from oneformer_spec.tasks import Task

ROWS = [{"id": 1, "name": "road", "isthing": 0}, {"id": 300, "name": "car", "isthing": 1}]
LABELS = Labels.parse(ROWS, source="labels")


def gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def palette(values: np.ndarray) -> Image.Image:
    """A mask whose colours say something else than its values."""
    picture = Image.fromarray(values.astype(np.uint8)).convert("P")
    picture.putdata(values.astype(np.uint8).ravel().tolist())
    picture.putpalette([255 - level for level in range(256) for _ in range(3)])
    return picture


def wide(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint16))


@pytest.fixture
def folder(tmp_path) -> Path:
    Image.new("RGB", (8, 6), (10, 200, 30)).save(tmp_path / "a.JPG", format="JPEG")
    return tmp_path


def source(folder: Path, *lines: object, **fields: object) -> Source:
    path = folder / "masks.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return Source("dataset.val", f"{path}", **fields)


@pytest.mark.parametrize(("kind", "car"), [(gray, 2), (palette, 2), (wide, 300)])
@pytest.mark.parametrize("unlabelled", [True, False])
def test_values_are_category_ids(folder, kind, car, unlabelled):
    values = np.full((6, 8), 1)
    values[2:4, 3:5] = car
    if unlabelled:
        values[0] = 0
    kind(values).save(folder / "a.PNG", format="PNG")
    labels = Labels.parse([ROWS[0], {**ROWS[1], "id": car}], source="labels")
    samples = SemanticJsonl(source(folder, {"img": "a.JPG", "segm": "a.PNG"}, "")).open(labels)
    assert samples.tasks == (Task.SEMANTIC,)
    sample = samples[0]
    assert (sample.name, sample.size) == ("a.JPG", (6, 8))
    np.testing.assert_array_equal(sample.id_maps, values[None])
    found = targets(sample, Task.SEMANTIC)
    assert found.labels.tolist() == [0, 1]
    assert found.masks.sum(axis=(1, 2)).tolist() == [48 - 4 - 8 * unlabelled, 4]


def test_stuff_alone_serves_panoptic_segmentation_too(folder):
    gray(np.ones((6, 8))).save(folder / "a.png")
    labels = Labels.parse(ROWS[:1], source="labels")
    samples = SemanticJsonl(source(folder, {"img": "a.JPG", "segm": "a.png"})).open(labels)
    assert samples.tasks == (Task.SEMANTIC, Task.PANOPTIC)
    assert targets(samples[0], Task.PANOPTIC).labels.tolist() == [0]


def test_names_start_from_the_folder_of_pictures_when_there_is_one(folder):
    (folder / "set").mkdir()
    gray(np.ones((6, 8))).save(folder / "set" / "m.png")
    (folder / "a.JPG").rename(folder / "set" / "a.JPG")
    line = {"img": "a.JPG", "segm": "m.png"}
    assert len(SemanticJsonl(source(folder, line, images=f"{folder / 'set'}")).open(LABELS)) == 1
    with pytest.raises(DataError, match=r"a\.JPG: does not exist \(.*masks\.jsonl:1\)$"):
        SemanticJsonl(source(folder, line)).open(LABELS)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "masks.jsonl: has no lines"),
        (["", "{"], "masks.jsonl:2:2: not JSON"),
        (["[" * 100_000], "masks.jsonl:1:1: not JSON"),
        (["3"], "masks.jsonl:1: expected an object with img and segm, found int"),
        ([{"img": "a.JPG"}], "masks.jsonl:1: segm must be a file name, found None"),
        ([{"img": "a.JPG", "segm": "a.png"}] * 2, "masks.jsonl:2: the image a.JPG occurs twice"),
        ([{"img": "/etc/passwd", "segm": "a.png"}], "/etc/passwd: leaves its folder"),
        ([{"img": "a.JPG", "segm": "../a.png"}], "../a.png: leaves its folder"),
    ],
)
def test_a_line_that_is_wrong_is_named(folder, lines, problem):
    gray(np.ones((6, 8))).save(folder / "a.png")
    wrong = source(folder, *lines)
    with pytest.raises(DataError) as raised:
        SemanticJsonl(wrong).open(LABELS)
    assert problem in str(raised.value)
    assert any(problem in line for line in SemanticJsonl(wrong).problems(LABELS))


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (gray(np.full((6, 8), 7)), "the value 7 (48 pixels) is not in the label map"),
        (gray(np.ones((8, 6))), "is 6x8 but the image is 8x6 in the orientation that its EXIF data asks for"),
        (Image.new("RGB", (8, 6)), "has pixels of the kind RGB; class values need a gray or palette PNG"),
    ],
)
def test_a_mask_that_is_wrong_is_named(folder, picture, problem):
    picture.save(folder / "a.png")
    wrong = source(folder, {"img": "a.JPG", "segm": "a.png"})
    expected = f"{folder}/a.png: {problem}"
    with pytest.raises(DataError) as raised:
        SemanticJsonl(wrong).open(LABELS)[0]
    assert str(raised.value).startswith(expected)
    [line] = SemanticJsonl(wrong).problems(LABELS)
    assert line.startswith(expected)


def test_a_truncated_picture_is_named(folder):
    gray(np.ones((6, 8))).save(folder / "a.png")
    data = (folder / "a.JPG").read_bytes()
    (folder / "a.JPG").write_bytes(data[: len(data) // 2])
    wrong = source(folder, {"img": "a.JPG", "segm": "a.png"})
    with pytest.raises(DataError, match=r"a\.JPG: damaged image: .*\(.*masks\.jsonl:1\)$"):
        SemanticJsonl(wrong).open(LABELS)[0]


@pytest.mark.parametrize(
    "name", ["coco_open", "nuclei_few", "ade20k", "camvid", "coco_pan100", "coco_pan3", "cocostuff", "nuclei"]
)
def test_real_masks_give_their_known_counts(data_set, name):
    root = data_set(name)
    known = json.loads((root / "stats.json").read_text())["semantic"]
    labels = Labels.read(root / "label_map.json")
    files = sorted(root.glob("semantic_*.jsonl"))
    assert files
    seen = set()
    for path in files:
        for line, sample in zip(
            path.read_text().splitlines(), SemanticJsonl(Source("x", f"{path}")).open(labels), strict=True
        ):
            mask = json.loads(line)["segm"]
            seen.add(mask)
            assert {str(value): pixels for value, pixels in value_counts(sample.id_maps).items()} == known[mask]
    assert seen == set(known)
