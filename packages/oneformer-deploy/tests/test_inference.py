from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_onnx import LABELS, manifest, write_model

from oneformer_deploy.__main__ import main
from oneformer_spec.labels import Labels

NAMES = ["B.JPG", "a.png", "below/a.png"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def inference(model, pictures, results):
    """Runs the command on the pictures; overrides given to it win."""

    def call(*overrides: str) -> int:
        defaults = [f"inference.checkpoint={model}", f"inference.images_dir={pictures}", f"results_dir={results}"]
        return main(["inference", *defaults, *overrides])

    return call


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def expected(prefix: str = "") -> set[str]:
    kinds = {"overlay": "jpg", "labels": "png", "segments": "json"}
    return {f"{prefix}{kind}/{name}.{suffix}" for kind, suffix in kinds.items() for name in NAMES}


def last_status(results: Path) -> str:
    return json.loads((results / "inference" / "status.json").read_text().splitlines()[-1])["status"]


@pytest.mark.parametrize("mode", ["semantic", "instance", "panoptic"])
def test_writes_three_files_per_image(inference, results, capsys, mode):
    assert inference(f"inference.mode={mode}") == 0
    assert set(files(results / "inference")) == expected() | {"experiment.yaml", "status.json"}
    document = json.loads((results / "inference/segments/below/a.png.json").read_text())
    assert document["task"] == mode
    assert "red" in {segment["name"] for segment in document["segments"]}
    assert last_status(results) == "SUCCESS"
    out, err = capsys.readouterr()
    assert "3 images segmented" in out
    assert str(results / "inference" / "overlay") in out
    assert "3/3 images" in err


def test_all_modes_go_to_a_folder_each(inference, results):
    assert inference("inference.mode=all") == 0
    wanted = expected("semantic/") | expected("instance/") | expected("panoptic/")
    assert set(files(results / "inference")) == wanted | {"experiment.yaml", "status.json"}
    tasks = {path.parts[-4 if path.parent.name == "below" else -3]: json.loads(path.read_text())["task"]
             for path in results.rglob("*.json") if path.name != "status.json"}  # fmt: skip
    assert tasks == {"semantic": "semantic", "instance": "instance", "panoptic": "panoptic"}


def test_results_have_the_original_size(inference, results):
    assert inference("inference.mode=panoptic", "inference.image_size=[128, 64]") == 0
    with Image.open(results / "inference/labels/B.JPG.png") as image:
        assert image.size == (192, 128)
        ids = np.asarray(image).astype(int) @ [1, 256, 65536]
    rows = json.loads((results / "inference/segments/B.JPG.json").read_text())["segments"]
    red = next(row for row in rows if row["name"] == "red")
    assert np.abs(np.array(red["bbox"]) - [32, 32, 48, 48]).max() <= 2
    assert (ids == red["id"]).sum() == red["area"]


def test_the_batch_size_changes_no_result(inference, results, tmp_path):
    assert inference("inference.mode=panoptic", "inference.batch_size=1") == 0
    shutil.copytree(results, tmp_path / "one")
    assert inference("inference.mode=panoptic", "inference.batch_size=3") == 0
    for name in expected():
        assert (results / "inference" / name).read_bytes() == (tmp_path / "one" / "inference" / name).read_bytes()


def test_a_second_run_replaces_its_own_files_and_no_others(inference, results):
    assert inference("inference.mode=instance") == 0
    (results / "inference/overlay/mine.txt").write_text("kept")
    assert inference("inference.mode=panoptic") == 0
    assert json.loads((results / "inference/segments/a.png.json").read_text())["task"] == "panoptic"
    assert (results / "inference/overlay/mine.txt").read_text() == "kept"
    assert not [name for name in files(results) if name.endswith(".tmp")]


def test_results_of_earlier_runs_are_not_segmented(inference, pictures, results):
    for override in (f"results_dir={pictures}/out", f"inference.results_dir={pictures}"):
        assert inference(override) == 0
        assert inference(override) == 0
    assert set(files(pictures / "out" / "inference")) == expected() | {"experiment.yaml", "status.json"}
    assert set(files(pictures / "segments")) == {f"{name}.json" for name in NAMES} | {
        name for name in files(pictures / "segments") if name.startswith("out/")
    }


def test_a_broken_image_does_not_stop_the_others(inference, pictures, results, capsys):
    assert inference() == 0
    before = (results / "inference/labels/a.png.png").read_bytes()
    broken = pictures / "a.png"
    broken.write_bytes(broken.read_bytes()[:60])
    (pictures / "empty.png").touch()
    capsys.readouterr()
    assert inference("inference.mode=panoptic", "inference.batch_size=2") == 1
    out, err = capsys.readouterr()
    problems = [line for line in err.splitlines() if "images/s" not in line]
    assert len(problems) == 2
    assert f"{broken}: damaged image" in problems[0]
    assert f"{pictures / 'empty.png'}: the file is empty" in problems[1]
    assert "2 images segmented" in out
    assert (results / "inference/labels/a.png.png").read_bytes() == before, "earlier results stay"
    for name in ("B.JPG", "below/a.png"):
        assert json.loads((results / f"inference/segments/{name}.json").read_text())["task"] == "panoptic"
    assert last_status(results) == "FAILURE"


def test_two_processes_print_and_write_the_same_as_one(inference, pictures, results, capfd, tmp_path):
    (pictures / "a.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    (pictures / "empty.png").touch()
    said = []
    for count in (1, 2):
        assert inference("inference.mode=panoptic", f"inference.num_gpus={count}") == 1
        out, err = capfd.readouterr()
        counts = [line.split(",")[0] for line in err.splitlines() if line.startswith("inference: 4/4")]
        problems = [line for line in err.splitlines() if not line.startswith(("inference: ", "note: "))]
        said.append((out.partition(" in ")[0], out.splitlines()[1:], counts, problems))
        shutil.move(results / "inference", tmp_path / str(count))
    assert said[0] == said[1]
    assert said[1][0] == "2 images segmented"
    assert [line.partition(": ")[0] for line in said[1][3]] == [str(pictures / "a.png"), str(pictures / "empty.png")]
    for name in files(tmp_path / "1"):
        if name not in ("experiment.yaml", "status.json"):
            assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_a_device_that_is_not_there_leaves_no_results(inference, results, capfd):
    assert inference("inference.gpu_ids=[0, 70]") == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert "device 'cuda:70' needs onnxruntime's CUDAExecutionProvider" in line
    assert not results.exists()


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (900, 2)])
def test_the_strangest_pictures_are_segmented(inference, pictures, results, size):
    Image.new("RGB", size, (255, 0, 0)).save(pictures / "strange.png")
    assert inference("inference.mode=all") == 0
    for task in ("semantic", "instance", "panoptic"):
        with Image.open(results / "inference" / task / "labels/strange.png.png") as image:
            assert image.size == size


def test_the_spec_moves_the_thresholds_of_the_model(inference, results):
    assert inference("inference.mode=instance", "model.test.object_mask_threshold=0.9999") == 0
    assert json.loads((results / "inference/segments/a.png.json").read_text())["segments"] == []
    assert inference("inference.mode=instance") == 0
    assert json.loads((results / "inference/segments/a.png.json").read_text())["segments"]


def test_a_fixed_size_wins_over_the_spec_with_a_note(inference, tmp_path, capsys):
    fixed = write_model(tmp_path / "fixed.onnx", image=(1, 3, 64, 96))
    assert inference(f"inference.checkpoint={fixed}", "inference.image_size=[256, 256]", "inference.batch_size=2") == 0
    assert "note: the model was exported at 96 x 64 pixels" in capsys.readouterr().err


def fails(inference, capsys, *overrides: str) -> tuple[int, str]:
    code = inference(*overrides)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return code, lines[0]


def test_a_folder_without_images_is_an_error(inference, capsys, tmp_path, results):
    (tmp_path / "none").mkdir()
    code, line = fails(inference, capsys, f"inference.images_dir={tmp_path / 'none'}")
    assert (code, line.endswith("none: contains no images")) == (1, True)
    assert not results.exists()


def test_a_missing_folder_is_an_error(inference, capsys, tmp_path, results):
    code, line = fails(inference, capsys, f"inference.images_dir={tmp_path / 'gone'}")
    assert (code, line.endswith("gone does not exist")) == (2, True)
    assert not results.exists()


def test_a_missing_model_leaves_no_results(inference, capsys, tmp_path, results):
    code, line = fails(inference, capsys, f"inference.checkpoint={tmp_path / 'gone.onnx'}")
    assert (code, line.endswith("gone.onnx does not exist")) == (2, True)
    assert not results.exists()


def test_a_results_folder_that_is_a_file_is_an_error(inference, capsys, results):
    results.write_text("mine")
    code, line = fails(inference, capsys)
    assert (code, str(results) in line) == (2, True)
    assert results.read_text() == "mine"


def test_an_image_whose_results_cannot_be_written_does_not_stop_the_others(inference, pictures, capsys, results):
    """The folder of the results of `a.png` bears the name of a result, and one name leaves no room for a suffix."""
    (results / "inference" / "semantic" / "overlay" / "a.png.jpg").mkdir(parents=True)
    shutil.copy(pictures / "a.png", pictures / f"{'y' * 251}.png")
    assert inference("inference.mode=all") == 1
    out, err = capsys.readouterr()
    problems = [line for line in err.splitlines() if "images/s" not in line]
    assert ["cannot write the results of a.png" in problems[0], "yyy" in problems[1], len(problems)] == [True, True, 2]
    assert "2 images segmented" in out
    for task in ("semantic", "instance", "panoptic"):
        assert (results / f"inference/{task}/overlay/below/a.png.jpg").exists()


def test_a_place_that_cannot_be_written_is_an_error(inference, capsys, results, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("oneformer_deploy.inference.write_results", full)
    assert inference() == 1
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].endswith("cannot write the results of B.JPG: No space left on device")
    assert "segmented" not in out


def test_temporary_files_of_a_run_that_was_killed_go(inference, results):
    left = results / "inference" / "overlay" / ".a.png.jpg.0123456789ab.tmp"
    left.parent.mkdir(parents=True)
    left.touch()
    assert inference() == 0
    assert not left.exists()


def test_a_class_name_that_the_font_lacks_is_reported(inference, tmp_path, capsys):
    labels = Labels.parse([row | {"name": "車"} if row["id"] == 7 else row for row in LABELS.rows()], source="test")
    model = write_model(tmp_path / "named.onnx", description=manifest(labels=labels))
    assert inference(f"inference.checkpoint={model}") == 0
    assert "lacks letters of the class name '車'" in capsys.readouterr().err


def test_a_font_file_that_is_missing_is_an_error(inference, capsys, monkeypatch, results):
    monkeypatch.setenv("ONEFORMER_FONT", "absent.ttf")
    assert inference() == 2
    assert "absent.ttf: ONEFORMER_FONT must be a font file" in capsys.readouterr().err
    assert not results.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inference.images_dir="], "inference.images_dir"),
        (["inference.checkpoint="], "inference.checkpoint: is not set"),
        (["inference.trt_engine=model.xyz"], "both set"),
        (["inference.checkpoint=model.xyz"], "no runtime for the suffix '.xyz'"),
        (["inference.mode=depth"], "inference.mode"),
    ],
)
def test_a_wrong_command_line_starts_nothing(inference, capsys, results, tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    Path("model.xyz").touch()
    code, line = fails(inference, capsys, *overrides)
    assert code == 2
    assert message in line
    assert not results.exists()
