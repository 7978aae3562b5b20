"""The third-party package of examples/format-plugin, installed beside ours: trained on, and through all tools."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plugin_site import install, oneformer, python, shown

PLUGIN = "examples/format-plugin"
PACKAGE = "oneformer_yolo"
TINY = (
    "model.backbone.swin.embed_dim=8",
    "model.backbone.swin.depths=[1,1,1,1]",
    "model.backbone.swin.num_heads=[1,1,2,2]",
    "model.sem_seg_head.num_classes=2",
    "model.sem_seg_head.convs_dim=32",
    "model.sem_seg_head.mask_dim=32",
    "model.sem_seg_head.transformer_enc_layers=1",
    "model.one_former.hidden_dim=32",
    "model.one_former.dec_layers=3",
    "model.one_former.num_object_queries=20",
    "model.one_former.train_num_points=64",
    "model.text_encoder.width=16",
    "dataset.augmentation.train_crop_size=[64,64]",
    "dataset.augmentation.test_min_size=64",
    "dataset.augmentation.test_max_size=64",
    "dataset.train.num_workers=1",  # another process reads the samples
    "dataset.val.num_workers=0",
    "dataset.dataset_type=serialized",
    "train.num_epochs=1",
    "train.iters_per_epoch=1",
    "export.input_width=64",
    "export.input_height=64",
)
CHECK = """
import sys
from oneformer_data.testing import check_dataset
from oneformer_spec.plugins.registry import registry

check_dataset(registry().datasets["yolo"], sys.argv[1])
"""


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as an installer leaves it."""
    return install(repository / PLUGIN, tmp_path_factory.mktemp("site"))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images to train on and two to validate, each with a square and a triangle that overlap."""
    monkeypatch.setenv("ONEFORMER_CACHE", f"{tmp_path / 'cache'}")
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            noise = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / "images" / split / f"{number}.png")
            lines = "0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6\n1 0.3 0.3 0.9 0.3 0.6 0.9\n"
            (root / "labels" / split / f"{number}.txt").write_text(lines)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: square, 1: triangle}\n")
    return root / "data.yaml"


@pytest.fixture
def spec(data: Path, tmp_path: Path) -> tuple[str, ...]:
    splits = (f"dataset.{split}.annotations={data}" for split in ("train", "val"))
    path = tmp_path / "spec.yaml"
    path.write_text(f"results_dir: {tmp_path / 'results'}\n")
    return "-e", str(path), *splits, "model.sem_seg_head.num_classes=2"


def done(site: Path, *words: str) -> str:
    """Return what a command prints, which must end well."""
    found = oneformer(site, *words)
    assert found.returncode == 0, found.stderr
    return found.stdout + found.stderr


def test_it_keeps_the_contract_of_formats(site: Path, data: Path) -> None:
    checked = python(site, "-c", CHECK, str(data))
    assert checked.returncode == 0, checked.stderr


def test_it_is_listed_and_a_choice(site: Path) -> None:
    assert "oneformer-yolo" in done(site, "plugins")
    schema = json.loads(oneformer(site, "get-schema").stdout)
    words, _ = schema["properties"]["dataset"]["properties"]["train"]["properties"]["type"]["anyOf"]
    assert "yolo" in words["enum"]


def test_a_model_trains_on_it_and_is_scored_and_exported(site: Path, spec: tuple[str, ...], tmp_path: Path) -> None:
    done(site, "validate", *spec, "--task", "train", "--data")
    done(site, "train", *spec, *TINY)
    checkpoint = tmp_path / "results" / "train" / "oneformer_model_latest.pth"
    done(site, "evaluate", *spec, *TINY, f"evaluate.checkpoint={checkpoint}")
    metrics = json.loads((tmp_path / "results" / "evaluate" / "metrics.json").read_text())
    assert (metrics["data"]["images"], "AP" in metrics, "PQ" in metrics) == (2, True, False)
    done(site, "export", *spec, *TINY, f"export.checkpoint={checkpoint}")
    assert (tmp_path / "results" / "export" / "model.onnx").stat().st_size


def test_the_tools_know_it(site: Path, spec: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    found = done(site, "dataset", "check", *spec)
    assert re.search(r"(?m)^train +4 +0 +8 .*\nval +2 +0 +4 .*\nno problems$", found), found
    done(site, "dataset", "stats", *spec, "--json", f"{tmp_path / 'stats.json'}")
    stats = json.loads((tmp_path / "stats.json").read_text())["splits"]["train"]
    assert (stats["images"], stats["segments"]) == (4, 8)
    done(site, "dataset", "show", *spec[:4], *TINY, "--output", f"{tmp_path / 'shown'}", "--count", "1")
    assert [path.name for path in (tmp_path / "shown").iterdir()] == ["000_instance.png"]
    done(site, "dataset", "convert", "annotations", "--annotations", str(data), "--output", f"{tmp_path / 'coco'}")
    assert len(json.loads((tmp_path / "coco" / "instances.json").read_text())["annotations"]) == 4


def test_it_is_packed_into_shards_that_give_the_same(
    site: Path, spec: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    done(site, "dataset", "shard", *spec, "--split", "train", "--output", str(shards), "--samples", "3")
    assert json.loads((shards / "shards.json").read_text())["type"] == "yolo"
    found = {}
    for name, path in (("files", data), ("shards", shards / "shards.json")):
        words = (*spec[:2], f"dataset.train.annotations={path}", "--json", f"{tmp_path / name}.json")
        done(site, "dataset", "stats", *words)
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["files"] == found["shards"]
    assert "no problems" in done(site, "dataset", "check", "--annotations", f"{shards / 'shards.json'}")
    without = oneformer(tmp_path, "dataset", "check", "--annotations", f"{shards / 'shards.json'}")
    assert without.returncode == 1
    assert "shards.json: type: 'yolo' is not an installed format that consists of files" in without.stderr


def test_problems_have_file_and_line_and_leaks_are_found(site: Path, spec: tuple[str, ...], data: Path) -> None:
    root = data.parent
    (root / "labels" / "train" / "0.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.6\n7 0.3 0.3 0.9 0.3 0.6 0.9\n")
    (root / "labels" / "train" / "1.txt").unlink()
    (root / "labels" / "val" / "0.txt").write_text("0 0.1 0.1 0.5 1.1 0.5 0.6\n")
    shutil.copy(root / "images" / "train" / "3.png", root / "images" / "val" / "1.png")
    checked = oneformer(site, "dataset", "check", *spec)
    assert checked.returncode == 1
    for line in (
        r"labels/train/0\.txt:2: expected a class and the corners of a polygon, found '7 0\.3",
        rf"labels/train/1\.txt: does not exist \({data}\)",
        r"labels/val/0\.txt:1: expected a class and the corners of a polygon",
        r"images/val/1\.png: in dataset\.val has the same content as .*images/train/3\.png in dataset\.train",
        r"4 problems in the data, 1 of them between splits",
    ):
        assert re.search(line, checked.stderr), checked.stderr
    assert re.search(r"(?m)^train +4 +2 +- ", checked.stdout), checked.stdout
    stopped = oneformer(site, "train", *spec, *TINY)
    assert stopped.returncode == 1
    assert f"labels/train/1.txt: does not exist ({data})" in stopped.stderr


@pytest.mark.parametrize("name", ["pyproject.toml", f"{PACKAGE}/plugin.py", f"{PACKAGE}/format.py"])
def test_the_documentation_shows_the_files_as_they_are(repository: Path, name: str) -> None:
    assert (repository / PLUGIN / name).read_text() in shown(repository / "docs" / "plugins.md")
