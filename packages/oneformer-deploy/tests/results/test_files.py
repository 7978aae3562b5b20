from __future__ import annotations

import json
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image
from tiny_onnx import LABELS, make_scene

from oneformer_deploy.results import rle
from oneformer_deploy.results.files import label_image, output_paths, segments_json, write_results
from oneformer_deploy.runtimes import onnxruntime_runtime
from oneformer_spec.labels import Label, Labels
from oneformer_spec.results import Segmentation
from oneformer_spec.tasks import TASKS, Task

NAME = PurePath("below/Picture.JPG")


@pytest.fixture
def results(model, scene):
    segmenter = onnxruntime_runtime.open(model)
    return {task: segmenter.predict([scene], task)[0] for task in TASKS}


def test_a_file_is_named_after_its_image_with_the_suffix_kept(tmp_path):
    paths = {name: path.relative_to(tmp_path).as_posix() for name, path in output_paths(tmp_path, NAME).items()}
    assert paths == {
        "overlay": "overlay/below/Picture.JPG.jpg",
        "labels": "labels/below/Picture.JPG.png",
        "segments": "segments/below/Picture.JPG.json",
    }


@pytest.mark.parametrize("task", TASKS)
def test_all_three_files_have_the_size_of_the_image(tmp_path, results, scene, task):
    write_results(tmp_path, NAME, scene, results[task], LABELS)
    paths = output_paths(tmp_path, NAME)
    with Image.open(paths["overlay"]) as overlay, Image.open(paths["labels"]) as labels:
        assert overlay.size == labels.size == (96, 64)
    document = json.loads(paths["segments"].read_text())
    assert (document["image"], document["height"], document["width"]) == ("below/Picture.JPG", 64, 96)
    assert document["task"] == task.value


@pytest.mark.parametrize("task", TASKS)
def test_all_three_files_are_written_when_nothing_was_found(tmp_path, scene, task):
    empty = Segmentation(task, np.zeros((64, 96), dtype=np.int32), ())
    write_results(tmp_path, NAME, scene, empty, LABELS)
    paths = output_paths(tmp_path, NAME)
    assert json.loads(paths["segments"].read_text())["segments"] == []
    assert not np.asarray(Image.open(paths["labels"])).any()
    assert np.abs(np.asarray(Image.open(paths["overlay"])).astype(int) - scene).mean() < 2


def test_semantic_labels_are_category_ids_in_8_bits(tmp_path, results, scene):
    write_results(tmp_path, NAME, scene, results[Task.SEMANTIC], LABELS)
    with Image.open(output_paths(tmp_path, NAME)["labels"]) as image:
        assert image.mode == "L"
        pixels = np.asarray(image)
    assert sorted(np.unique(pixels)) == [1, 7, 9]
    assert pixels[20, 20] == 1


def test_large_category_ids_take_16_bits_in_every_picture(tmp_path):
    labels = Labels((Label(1, "a", True, (1, 2, 3)), Label(700, "b", False, (1, 2, 3))))
    ids = np.array([[1, 700], [0, 1]], dtype=np.int32)
    for number, pixels in enumerate((ids, np.ones_like(ids))):
        image = np.zeros((2, 2, 3), dtype=np.uint8)
        write_results(tmp_path, PurePath(f"{number}.png"), image, Segmentation(Task.SEMANTIC, pixels, ()), labels)
        with Image.open(tmp_path / "labels" / f"{number}.png.png") as read:
            assert read.mode.startswith("I;16")
            np.testing.assert_array_equal(np.asarray(read), pixels)


def test_ids_beyond_16_bits_are_written_as_colours():
    labels = Labels((Label(70_000, "a", True, (1, 2, 3)),))
    pixels = label_image(Segmentation(Task.SEMANTIC, np.full((1, 1), 70_000, dtype=np.int32), ()), labels)
    assert pixels.tolist() == [[[70_000 & 255, 70_000 >> 8 & 255, 1]]]


@pytest.mark.parametrize("task", [Task.INSTANCE, Task.PANOPTIC])
def test_ids_are_colours_as_coco_panoptic_writes_them(tmp_path, results, scene, task):
    write_results(tmp_path, NAME, scene, results[task], LABELS)
    pixels = np.asarray(Image.open(output_paths(tmp_path, NAME)["labels"])).astype(np.int32)
    np.testing.assert_array_equal(pixels @ [1, 256, 65536], results[task].map)


def test_the_json_lists_the_segments(results):
    document = json.loads(segments_json(NAME, results[Task.PANOPTIC]))
    for row, segment in zip(document["segments"], results[Task.PANOPTIC].segments, strict=True):
        assert set(row) == {"id", "category_id", "name", "isthing", "score", "area", "bbox"}
        assert row["area"] == (results[Task.PANOPTIC].map == segment.id).sum()
        assert row["score"] == pytest.approx(segment.score, abs=1e-6)
        assert row["bbox"] == list(segment.bbox)
        assert (row["name"], row["isthing"]) == (segment.name, segment.isthing)


def test_an_instance_carries_its_mask(results):
    (segment,) = results[Task.INSTANCE].segments
    (row,) = json.loads(segments_json(NAME, results[Task.INSTANCE]))["segments"]
    np.testing.assert_array_equal(rle.decode(row["segmentation"]), segment.mask)


def test_a_semantic_class_has_no_score(results):
    rows = json.loads(segments_json(NAME, results[Task.SEMANTIC]))["segments"]
    assert {row["name"]: row["score"] for row in rows} == {"red": None, "green": None, "dark": None}


def test_the_json_has_one_line_per_segment(results):
    lines = segments_json(NAME, results[Task.PANOPTIC]).splitlines()
    assert sum('"category_id"' in line for line in lines) == len(results[Task.PANOPTIC].segments)


def test_the_overlay_keeps_the_full_resolution_of_colour(tmp_path, results):
    write_results(tmp_path, NAME, make_scene(), results[Task.PANOPTIC], LABELS)
    with Image.open(output_paths(tmp_path, NAME)["overlay"]) as image:
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}
