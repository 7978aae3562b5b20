"""The whole way through the command line on real images: train, evaluate, predict, export, run the export.

A tiny network and a few steps: what is checked is that everything fits together, not what was learned.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneformer_cli.main import main

NUCLEI = "examples/nuclei"
TINY = (
    "model.backbone.swin.embed_dim=8",
    "model.backbone.swin.depths=[1,1,1,1]",
    "model.backbone.swin.num_heads=[1,1,2,2]",
    "model.sem_seg_head.convs_dim=32",
    "model.sem_seg_head.mask_dim=32",
    "model.sem_seg_head.transformer_enc_layers=1",
    "model.one_former.hidden_dim=32",
    "model.one_former.dec_layers=3",
    "model.one_former.train_num_points=256",
    "model.text_encoder.width=16",
    "dataset.augmentation.test_min_size=128",
    "dataset.augmentation.test_max_size=128",
    "dataset.augmentation.train_crop_size=[128,128]",
    "dataset.train.num_workers=0",
    "train.num_epochs=1",
    "train.iters_per_epoch=8",
)
WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is not to be imported")

sys.meta_path.insert(0, Refuse())
from oneformer_deploy.__main__ import main

sys.exit(main(sys.argv[1:]))
"""
Data = dict[str, Path]


def oneformer(*words: str) -> int:
    """Run a command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def data(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Four training and three validation images in a folder of their own, to be broken at will."""
    source, folder = repository / NUCLEI, tmp_path_factory.mktemp("nuclei")
    shutil.copy(source / "label_map.json", folder)
    for split, count in (("train", 4), ("val", 3)):
        document = json.loads((source / "annotations" / f"panoptic_{split}.json").read_text())
        document["images"] = document["images"][:count]
        kept = {image["id"] for image in document["images"]}
        document["annotations"] = [row for row in document["annotations"] if row["image_id"] in kept]
        (folder / f"{split}.json").write_text(json.dumps(document))
        for kind, rows in (("images", document["images"]), ("panoptic", document["annotations"])):
            (folder / kind / split).mkdir(parents=True)
            for row in rows:
                shutil.copy(source / kind / split / row["file_name"], folder / kind / split)
    return {"folder": folder, "spec": source / "demo.yaml"}


def overrides(folder: Path, results: Path) -> list[str]:
    """Point the demo's spec at a copy of its data, with a tiny network."""
    words = [f"results_dir={results}", f"dataset.label_map={folder}/label_map.json"]
    for split in ("train", "val"):
        words += [
            f"dataset.{split}.images={folder}/images/{split}",
            f"dataset.{split}.annotations={folder}/{split}.json",
            f"dataset.{split}.panoptic={folder}/panoptic/{split}",
        ]
    return [*words, *TINY]


@pytest.fixture(scope="module")
def trained(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a short run, with its export."""
    results = tmp_path_factory.mktemp("results")
    words = overrides(data["folder"], results)
    assert oneformer("train", "-e", str(data["spec"]), *words) == 0
    checkpoint = results / "train" / "oneformer_model_latest.pth"
    size = ("export.input_width=128", "export.input_height=128")
    assert oneformer("export", "-e", str(data["spec"]), *words, f"export.checkpoint={checkpoint}", *size) == 0
    return results


MODELS = {"checkpoint": "train/oneformer_model_latest.pth", "onnx": "export/model.onnx"}


RUNTIMES = {"torch": "checkpoint", "onnxruntime": "onnx", "openvino": "onnx"}


def test_every_runtime_gives_the_same_scores_of_three_tasks(data: Data, trained: Path, tmp_path: Path) -> None:
    found = {}
    for name, model in RUNTIMES.items():
        words = [*overrides(data["folder"], tmp_path / name), f"evaluate.runtime={name}"]
        path = trained / MODELS[model]
        assert oneformer("evaluate", "-e", str(data["spec"]), *words, f"evaluate.checkpoint={path}") == 0
        metrics = json.loads((tmp_path / name / "evaluate" / "metrics.json").read_text())
        assert metrics["data"]["images"] == 3
        assert 0 < metrics["mIoU"] < 1
        found[name] = [metrics["PQ"]["all"]["pq"], metrics["AP"]["AP"], metrics["mIoU"]]
    assert found["onnxruntime"] == pytest.approx(found["torch"], abs=1e-3)
    assert found["openvino"] == pytest.approx(found["torch"], abs=1e-3)


def test_the_export_gives_the_checkpoints_segments_where_torch_is_not_imported(
    data: Data, trained: Path, tmp_path: Path
) -> None:
    images, spec = data["folder"] / "images" / "val", str(data["spec"])
    chosen = (f"inference.images_dir={images}", "inference.mode=all", "model.test.object_mask_threshold=0.2")
    words = [*overrides(data["folder"], tmp_path / "torch"), *chosen]
    assert oneformer("inference", "-e", spec, *words, f"inference.checkpoint={trained / MODELS['checkpoint']}") == 0
    model, results = trained / MODELS["onnx"], f"results_dir={tmp_path / 'onnx'}"
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "inference", f"inference.checkpoint={model}", results, *chosen],
        check=True,
    )
    for task in ("semantic", "instance", "panoptic"):
        pairs = [
            [tmp_path / runtime / "inference" / task / "labels" / f"{image.name}.png" for runtime in ("torch", "onnx")]
            for image in sorted(images.iterdir())
        ]
        one, other = (np.stack([np.asarray(Image.open(pair[i])) for pair in pairs]) for i in (0, 1))
        assert (one == other).mean() >= 0.999
        for kind in ("overlay", "segments"):
            assert len(list((tmp_path / "onnx" / "inference" / task / kind).iterdir())) == 3


def test_the_commands_that_a_run_ends_with_can_be_pasted(
    data: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "it's run #1: $HOME"
    images = f"inference.images_dir={data['folder']}/images/val"
    words = [*overrides(data["folder"], results), images, "train.iters_per_epoch=1"]
    assert oneformer("train", "-e", str(data["spec"]), *words, "wandb.enable=false") == 0
    _, found, text = capfd.readouterr().out.partition("next:\n")
    assert found
    commands = text.splitlines()
    for command in commands:  # a shell takes them apart as it would at a prompt
        taken = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
        program, *arguments = taken.stdout.split("\0")[:-1]
        assert program == "oneformer"
        assert oneformer(*arguments) == 0
    assert len(commands) == 3
    assert (results / "evaluate" / "metrics.json").is_file()
    assert len(list((results / "inference" / "panoptic" / "overlay").iterdir())) == 3
    assert (results / "export" / "model.onnx").is_file()


def test_the_task_token_changes_what_is_found(data: Data, trained: Path) -> None:
    import torch

    import oneformer_model

    model = oneformer_model.load(trained / MODELS["checkpoint"])
    image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = [model(image, oneformer_model.task_tokens(task, 1)) for task in ("semantic", "instance", "panoptic")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (found[one].class_logits - found[other].class_logits).abs().max() > 1e-3


def _missing_image(folder: Path) -> str:
    path = sorted((folder / "images" / "val").iterdir())[0]
    path.unlink()
    return path.name


def _other_png(folder: Path) -> str:
    path = sorted((folder / "panoptic" / "val").iterdir())[0]
    Image.fromarray(np.full((256, 256, 3), 7, dtype=np.uint8)).save(path)
    return path.name


def _annotation(folder: Path, **changes: int) -> str:
    document = json.loads((folder / "val.json").read_text())
    document["annotations"][0]["segments_info"][0] |= changes
    (folder / "val.json").write_text(json.dumps(document))
    return "val.json"


def _truncated_image(folder: Path) -> str:
    path = sorted((folder / "images" / "val").iterdir())[-1]
    path.write_bytes(path.read_bytes()[:2000])
    return path.name


def _empty_image(folder: Path) -> str:
    path = sorted((folder / "images" / "val").iterdir())[-1]
    path.write_bytes(b"")
    return path.name


BREAKS: dict[str, Callable[[Path], str]] = {
    "a missing image": _missing_image,
    "a PNG that disagrees with its JSON": _other_png,
    "a segment id 0": lambda folder: _annotation(folder, id=0),
    "a class that the label map lacks": lambda folder: _annotation(folder, category_id=99),
    "a truncated image": _truncated_image,
    "an image of no bytes": _empty_image,
}


@pytest.mark.parametrize("problem", BREAKS)
def test_broken_data_is_one_line_and_leaves_earlier_results(
    data: Data, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], problem: str
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data["folder"], folder)
    words = overrides(folder, tmp_path)
    command = ("evaluate", "-e", str(data["spec"]), *words, f"evaluate.checkpoint={trained / MODELS['onnx']}")
    assert oneformer(*command) == 0
    before = (tmp_path / "evaluate" / "metrics.json").read_bytes()
    name = BREAKS[problem](folder)
    capfd.readouterr()
    assert oneformer(*command) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if not line.startswith(("note:", "evaluate:"))]
    assert len(errors) == 1
    assert name in errors[0]
    assert (tmp_path / "evaluate" / "metrics.json").read_bytes() == before


def test_a_results_dir_that_is_a_file_is_one_line(
    data: Data, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "results"
    mine.write_text("mine")
    words = [*overrides(data["folder"], mine), f"evaluate.checkpoint={trained / MODELS['onnx']}"]
    assert oneformer("evaluate", "-e", str(data["spec"]), *words) != 0
    errors = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("note:")]
    assert len(errors) == 1
    assert str(mine) in errors[0]
    assert mine.read_text() == "mine"


def test_an_export_is_not_replaced_without_being_asked(
    data: Data, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = trained / MODELS["onnx"]
    before = model.read_bytes()
    words = [*overrides(data["folder"], trained), f"export.checkpoint={trained / MODELS['checkpoint']}"]
    assert oneformer("export", "-e", str(data["spec"]), *words) == 2
    assert "--force" in capfd.readouterr().err
    assert model.read_bytes() == before


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks are fastest on one thread."""
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
