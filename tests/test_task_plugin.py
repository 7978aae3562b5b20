"""The third-party package of examples/task-plugin beside ours: trained, scored, exported, run, and left out again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plugin_site import install, oneformer, python, shown

PLUGIN = "examples/task-plugin"
PACKAGE = "oneformer_boundary"
SIZE = ("dataset.augmentation.test_min_size=64", "dataset.augmentation.test_max_size=64")
TINY = (
    *SIZE,
    "model.backbone.swin.embed_dim=8",
    "model.backbone.swin.depths=[1,1,1,1]",
    "model.backbone.swin.num_heads=[1,1,2,2]",
    "model.sem_seg_head.convs_dim=32",
    "model.sem_seg_head.mask_dim=32",
    "model.sem_seg_head.transformer_enc_layers=1",
    "model.one_former.hidden_dim=32",
    "model.one_former.dec_layers=3",
    "model.one_former.num_object_queries=30",
    "model.one_former.train_num_points=256",
    "model.text_encoder.width=16",
    "dataset.augmentation.train_crop_size=[64,64]",
    "dataset.train.num_workers=0",
    "dataset.task_prob_train={semantic: 0, instance: 0, panoptic: 0.1, boundary: 0.9}",
    "train.num_epochs=1",
    "train.iters_per_epoch=2",
    "train.validation_interval=1",
    "train.checkpointer.enable_topk=true",
    "train.checkpointer.monitor=boundary_F",
    "train.checkpointer.filename=best_{boundary_F:.3f}",
    "export.input_width=64",
    "export.input_height=64",
)
CHECK = """
from oneformer_data.testing import check_task
from oneformer_spec.plugins.registry import registry

check_task(registry().tasks["boundary"])
"""


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed."""
    return install(repository / PLUGIN, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def data(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The demo's spec with three images to score."""
    document = json.loads((repository / "examples/nuclei/annotations/panoptic_val.json").read_text())
    few = {image["id"] for image in document["images"][:3]}
    document["images"] = [image for image in document["images"] if image["id"] in few]
    document["annotations"] = [row for row in document["annotations"] if row["image_id"] in few]
    path = tmp_path_factory.mktemp("data") / "val.json"
    path.write_text(json.dumps(document))
    return ["-e", "examples/nuclei/demo.yaml", f"dataset.val.annotations={path}", "dataset.val.batch_size=1"]


@pytest.fixture(scope="module")
def images(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures to run a model on."""
    folder = tmp_path_factory.mktemp("images")
    for path in sorted((repository / "examples/nuclei/images/val").iterdir())[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def trained(site: Path, data: list[str], repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of two steps of training with the task, validated and exported."""
    results = tmp_path_factory.mktemp("results")
    words = (*data, *TINY, f"results_dir={results}")
    done = oneformer(site, "train", *words, folder=repository)
    assert done.returncode == 0, done.stderr
    (results / "train.txt").write_text(done.stderr)
    checkpoint = results / "train" / "oneformer_model_latest.pth"
    done = oneformer(site, "export", *words, f"export.checkpoint={checkpoint}", folder=repository)
    assert done.returncode == 0, done.stderr
    return results


def test_it_keeps_the_contract_of_tasks(site: Path) -> None:
    done = python(site, "-c", CHECK)
    assert done.returncode == 0, done.stderr


def test_training_shows_logs_and_watches_its_number(trained: Path) -> None:
    (best,) = (trained / "train").glob("best_*.pth")
    shown_value = best.name.removeprefix("best_").removesuffix(".pth")
    assert f"boundary_F {shown_value}" in (trained / "train.txt").read_text()
    lines = [json.loads(line) for line in (trained / "train" / "status.json").read_text().splitlines()]
    assert any("boundary_F" in line.get("kpi", {}) for line in lines)


def test_every_runtime_scores_it_beside_the_others(
    site: Path, data: list[str], trained: Path, repository: Path, tmp_path: Path
) -> None:
    found = {}
    for runtime, model in (("torch", "train/oneformer_model_latest.pth"), ("onnxruntime", "export/model.onnx")):
        words = (*data, *SIZE, f"evaluate.checkpoint={trained / model}", f"results_dir={tmp_path / runtime}")
        done = oneformer(site, "evaluate", *words, folder=repository)
        assert done.returncode == 0, done.stderr
        assert "boundary_F" in done.stdout
        metrics = json.loads((tmp_path / runtime / "evaluate" / "metrics.json").read_text())
        assert {"PQ", "AP", "mIoU", "boundary"} <= metrics.keys()
        found[runtime] = metrics["boundary"]
    assert found["torch"] == pytest.approx(found["onnxruntime"], abs=0.02)


def run(site: Path | None, model: Path, images: Path, results: Path, mode: str) -> tuple[int, str]:
    """Run `inference` on a model file; return the exit code and what stderr holds."""
    words = (f"inference.checkpoint={model}", f"inference.images_dir={images}", f"results_dir={results}")
    done = oneformer(site, "inference", *words, f"inference.mode={mode}")
    return done.returncode, done.stderr


def test_its_results_are_written_as_those_of_any_task(site: Path, trained: Path, images: Path, tmp_path: Path) -> None:
    code, errors = run(site, trained / "export" / "model.onnx", images, tmp_path, "boundary")
    assert code == 0, errors
    folder = tmp_path / "inference"
    for path in images.iterdir():
        with Image.open(path) as picture, Image.open(folder / "overlay" / f"{path.name}.jpg") as overlay:
            assert overlay.size == picture.size
        segments = json.loads((folder / "segments" / f"{path.name}.json").read_text())
        assert segments["task"] == "boundary"
        with Image.open(folder / "labels" / f"{path.name}.png") as ids:
            red = np.asarray(ids)[..., 0]
        assert set(np.unique(red)) == {0, *(segment["id"] for segment in segments["segments"])} - (
            {0} if red.all() else set()
        )


def test_mode_all_includes_it(site: Path, trained: Path, images: Path, tmp_path: Path) -> None:
    code, errors = run(site, trained / "export" / "model.onnx", images, tmp_path, "all")
    assert code == 0, errors
    folders = {path.name for path in (tmp_path / "inference").iterdir() if path.is_dir()}
    assert folders == {"semantic", "instance", "panoptic", "boundary"}


@pytest.mark.parametrize("model", ["train/oneformer_model_latest.pth", "export/model.onnx"])
def test_the_model_file_runs_its_other_tasks_without_the_plugin(
    trained: Path, images: Path, tmp_path: Path, model: str
) -> None:
    code, errors = run(None, trained / model, images, tmp_path, "semantic")
    assert code == 0, errors
    assert len(list((tmp_path / "inference" / "labels").iterdir())) == 2


def test_without_the_plugin_its_mode_is_not_one(trained: Path, images: Path, tmp_path: Path) -> None:
    code, errors = run(None, trained / "export" / "model.onnx", images, tmp_path, "boundary")
    assert code == 2
    assert 'found "boundary", expected one of semantic, instance, panoptic, all' in errors


def test_the_spec_of_the_run_evaluates_other_tasks_without_the_plugin(
    trained: Path, repository: Path, tmp_path: Path
) -> None:
    words = ("-e", str(trained / "train" / "experiment.yaml"), "evaluate.task=semantic", f"results_dir={tmp_path}")
    model = trained / "export" / "model.onnx"
    done = oneformer(None, "evaluate", *words, f"evaluate.checkpoint={model}", folder=repository)
    assert done.returncode == 0, done.stderr
    assert "dataset.task_prob_train: no task 'boundary' is installed; evaluate does not use it" in done.stderr
    assert json.loads((tmp_path / "evaluate" / "metrics.json").read_text()).keys() >= {"mIoU"}


def test_training_with_it_needs_it(trained: Path, repository: Path) -> None:
    done = oneformer(None, "train", "-e", str(trained / "train" / "experiment.yaml"), folder=repository)
    assert done.returncode == 2
    assert "unknown key 'boundary', expected semantic, instance, panoptic" in done.stderr


def test_a_model_that_was_not_trained_for_it_says_so(
    site: Path, data: list[str], repository: Path, images: Path, tmp_path: Path
) -> None:
    words = [word for word in TINY if "boundary" not in word and "topk" not in word]
    words += ["dataset.val.annotations=", f"results_dir={tmp_path}", "train.iters_per_epoch=1"]
    assert oneformer(site, "train", *data, *words, folder=repository).returncode == 0
    model = tmp_path / "train" / "oneformer_model_latest.pth"
    code, errors = run(site, model, images, tmp_path, "boundary")
    assert code == 2
    expected = f"inference.mode: {model}: the model was not trained for the task 'boundary'; it knows semantic, "
    assert errors.strip().splitlines()[-1] == f"{expected}instance, panoptic"
    assert not (tmp_path / "inference").exists()


@pytest.mark.parametrize(
    "name", ["pyproject.toml", *(f"{PACKAGE}/{part}.py" for part in ("plugin", "targets", "score"))]
)
def test_the_documentation_shows_the_files_as_they_are(repository: Path, name: str) -> None:
    assert (repository / PLUGIN / name).read_text() in shown(repository / "docs" / "plugins.md")
