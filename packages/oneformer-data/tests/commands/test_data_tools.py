from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer comes with oneformer-cli")

from PIL import Image
from typer.testing import CliRunner

from oneformer_data.commands.dataset import app
from oneformer_data.formats.id_png import read_classes
from oneformer_spec.errors import DataError, SpecError, UsageError
from oneformer_spec.loading.load import load_spec

RUNNER = CliRunner()


def dataset(*words: object):
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def files(folder, labels, tmp_path):
    """The options that name the data set of two pictures."""
    folder.save()
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(labels.rows()))
    source = folder.source
    names = ["--annotations", source.annotations, "--images", source.images, "--panoptic", source.panoptic]
    return [*names, "--label-map", path]


@pytest.fixture
def spec(files, tmp_path):
    """A spec file that names the same data for training."""
    _, annotations, _, images, _, panoptic, _, label_map = map(str, files)
    path = tmp_path / "spec.json"
    train = {"annotations": annotations, "images": images, "panoptic": panoptic}
    document = {"dataset": {"label_map": label_map, "train": train}, "model": {"sem_seg_head": {"num_classes": 2}}}
    path.write_text(json.dumps(document))
    return path


def test_check_counts_what_it_read(files, tmp_path):
    result = dataset("check", *files, "--json", tmp_path / "found.json")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == ["val", "2", "0", "-", str(files[1])]
    assert result.stdout.endswith("no problems\n")
    assert json.loads((tmp_path / "found.json").read_text())["problems"] == []


def test_check_of_a_spec_names_its_split(spec):
    assert dataset("check", "-e", spec).stdout.splitlines()[1].startswith("train ")


def test_check_tells_each_problem_and_fails(files, folder, tmp_path):
    for name in ("11.png", "12.png"):
        (folder.root / "panoptic" / name).unlink()
    with pytest.raises(DataError, match=r"^2 problems in the data$"):
        dataset("check", *files)
    with pytest.raises(DataError, match="2 problems"):
        dataset("check", *files, "--json", tmp_path / "found.json")
    document = json.loads((tmp_path / "found.json").read_text())
    assert [problem.partition(":")[0] for problem in document["problems"]] == [
        str(folder.root / "panoptic" / name) for name in ("11.png", "12.png")
    ]


def test_json_for_stdout_is_all_there_is_on_it(files):
    assert json.loads(dataset("check", *files, "--json", "-").stdout)["images"] == 2
    assert json.loads(dataset("stats", *files, "--json", "-").stdout)["splits"]["val"]["segments"] == 6


def test_stats_prints_a_table(spec):
    result = dataset("stats", "-e", spec)
    assert "square  thing       2         4       1     25.00" in result.stdout


def test_data_must_be_named():
    with pytest.raises(SpecError, match="no split is set"):
        dataset("check")
    with pytest.raises(SpecError, match=r"dataset\.val\.annotations: is not set"):
        dataset("stats", "--images", "images")


def test_convert_prints_the_settings_that_read_its_files(files, tmp_path):
    output = tmp_path / "out: of the way"
    result = dataset("convert", "panoptic", *files, "--output", output, "--to", "semantic")
    assert result.exit_code == 0
    path = tmp_path / "printed.yaml"
    path.write_text(result.stdout.split("\n", 1)[1])
    read = load_spec([path]).spec.dataset
    assert (read.label_map, read.train.annotations) == (f"{output}/label_map.json", f"{output}/semantic.jsonl")
    line = json.loads((output / "semantic.jsonl").read_text().splitlines()[0])
    assert read_classes(f"{read.train.images}/{line['segm']}").shape == (24, 32)


def test_shard_prints_the_settings_that_read_its_files(spec, tmp_path):
    output = tmp_path / "out: of the way"
    result = dataset("shard", "-e", spec, "--output", output, "--samples", "1", "--shuffle", "3")
    assert result.exit_code == 0
    assert result.stdout.startswith("2 images in 2 tar files. ")
    path = tmp_path / "printed.yaml"
    path.write_text(result.stdout.split("\n", 1)[1])
    read = load_spec([path]).spec
    assert (read.dataset.train.annotations, read.model.sem_seg_head.num_classes) == (f"{output}/shards.json", 2)
    printed = dataset("stats", "-e", path)
    assert printed.stdout.splitlines()[:5] == dataset("stats", "-e", spec).stdout.splitlines()[:5]


def test_shard_of_several_data_sets_prints_a_list(files, tmp_path):
    _, annotations, _, images, _, panoptic, _, label_map = map(str, files)
    words = [f"dataset.train.annotations=[{annotations}, {annotations}]", "dataset.train.names=[one, two]"]
    words += [f"dataset.train.images={images}", f"dataset.train.panoptic={panoptic}", f"dataset.label_map={label_map}"]
    words.append("model.sem_seg_head.num_classes=2")
    result = dataset("shard", *words, "--output", tmp_path / "out")
    (tmp_path / "printed.yaml").write_text(result.stdout.split("\n", 1)[1])
    read = load_spec([tmp_path / "printed.yaml"]).spec.dataset.train.annotations
    assert read == tuple(f"{tmp_path / 'out' / name / 'shards.json'}" for name in ("one", "two"))


def test_convert_leaves_wrong_pictures_out_when_asked_to(files, folder, tmp_path):
    (folder.root / "images" / "11.png").write_bytes(b"no picture")
    words = ["convert", "panoptic", *files, "--output", tmp_path / "out"]
    with pytest.raises(DataError, match="1 of 2 images cannot be converted"):
        dataset(*words)
    result = dataset(*words, "--skip-bad")
    assert result.stdout.startswith("1 images, 1 skipped. ")


def test_convert_refuses_other_formats(files, tmp_path):
    with pytest.raises(UsageError, match="--to coco: is not one of panoptic, instance, semantic"):
        dataset("convert", "panoptic", *files, "--output", tmp_path / "out", "--to", "coco")


@pytest.mark.parametrize("source", ["cityscapes", "ade20k", "voc", "labelme"])
def test_every_source_can_be_called(source, tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    names = {"cityscapes": ("a_leftImg8bit.png", "a_gtFine_labelIds.png")}.get(source, ("a.png", "a.png"))
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(images / names[0])
    Image.fromarray(np.full((4, 6), 7, np.uint8)).save(masks / names[1])
    shape = {"label": "cat", "points": [[0, 0], [6, 0], [6, 4]]}
    (masks / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": [shape]}))
    option = {"voc": "--classes", "labelme": "--annotations"}.get(source, "--masks")
    words = ["convert", source, "--images", images, option, masks, "--output", tmp_path / "out"]
    assert dataset(*words).exit_code == 0
    assert (tmp_path / "out" / "semantic" / "a.png").exists() == (source != "cityscapes")
    assert len((tmp_path / "out" / "semantic.jsonl").read_text().splitlines()) == 1
