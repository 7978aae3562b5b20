"""Several processes give the files of one, whatever the runtime, and stop as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from acts.row import filled
from acts.settings import SETTINGS, copy_data, save_model

RUNTIMES = {"torch": "model.pth", "onnxruntime": "model.onnx", "openvino": "model.onnx"}
PICTURES = "examples/nuclei/images/val"
LIMIT = 300  # seconds after which a command counts as hanging
WITHOUT_TORCH = "raise ImportError('torch is not to be imported')"


def command(*words: str, program: str = "oneformer_cli", hidden: Path | None = None) -> subprocess.Popen[str]:
    """Start a command on one thread per process: sums in another order differ in their last bits."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if hidden is not None:
        environment["PYTHONPATH"] = str(hidden)
    return subprocess.Popen(
        [sys.executable, "-m", program, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def succeeded(process: subprocess.Popen[str]) -> str:
    """Wait for a command and return what it said."""
    output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    return output + errors


@pytest.fixture(scope="module")
def words(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A tiny network with random weights, exported too, and the twenty validation pictures of the example."""
    root = tmp_path_factory.mktemp("several")
    data, nuclei = root / "data", repository / "examples" / "nuclei"
    data.mkdir()
    copy_data(nuclei, data)
    found = filled(SETTINGS, {"run": root, "data": data, "model": root / "model.pth"})
    found += (
        f"dataset.val.images={nuclei}/images/val",
        f"dataset.val.annotations={nuclei}/annotations/panoptic_val.json",
        f"dataset.val.panoptic={nuclei}/panoptic/val",
        f"dataset.label_map={nuclei}/label_map.json",
        f"inference.images_dir={repository / PICTURES}",
        "inference.mode=all",
        "model.test.object_mask_threshold=0.0",
        "evaluate.batch_size=2",
        "inference.batch_size=3",
    )
    save_model(found, root / "model.pth", seed=0)
    succeeded(command("export", *found, f"export.onnx_file={root / 'model.onnx'}"))
    return (*found, f"results_dir={root}")


@pytest.fixture
def no_torch(tmp_path: Path) -> Path:
    """A folder whose `torch` cannot be imported."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / "torch.py").write_text(WITHOUT_TORCH)
    return folder


def written(folder: Path) -> dict[str, bytes]:
    """Return the files of a run, without what records the run itself."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("experiment.yaml", "status.json")
    }


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("task", "files"), [("evaluate", 1), ("inference", 20 * 9)])
def test_two_processes_write_the_files_of_one(
    words: tuple[str, ...], tmp_path: Path, no_torch: Path, task: str, files: int, runtime: str
) -> None:
    model = Path(words[-1].partition("=")[2]) / RUNTIMES[runtime]
    found = []
    for count in (1, 2):
        chosen = [f"{task}.checkpoint={model}", f"{task}.runtime={runtime}", f"{task}.num_gpus={count}"]
        alone = {} if runtime == "torch" else {"program": "oneformer_deploy", "hidden": no_torch}
        said = succeeded(command(task, *words, *chosen, f"results_dir={tmp_path / str(count)}", **alone))  # type: ignore[arg-type]
        assert said.count("20/20 images") == 1
        found.append(written(tmp_path / str(count) / task))
    assert len(found[0]) == files
    assert found[0] == found[1]


def test_two_machines_write_the_files_of_one(words: tuple[str, ...], tmp_path: Path) -> None:
    root = Path(words[-1].partition("=")[2])
    chosen = [*words, f"inference.checkpoint={root / 'model.onnx'}"]
    succeeded(command("inference", *chosen, f"results_dir={tmp_path / 'one'}"))
    totals = []
    for number in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NODE_RANK", str(number))
            said = succeeded(command("inference", *chosen, "inference.num_nodes=2", f"results_dir={tmp_path / 'two'}"))
        totals.append(int(said.split(" images segmented")[0].split()[-1]))
    assert totals == [9, 11]
    assert written(tmp_path / "one") == written(tmp_path / "two")


def test_a_picture_that_breaks_an_evaluation_is_the_same_line(
    repository: Path, words: tuple[str, ...], tmp_path: Path
) -> None:
    root = Path(words[-1].partition("=")[2])
    images = tmp_path / "images"
    images.mkdir()
    for path in (repository / PICTURES).iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    last = sorted(images.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:100])
    lines = []
    for count in (1, 2):
        chosen = [f"evaluate.checkpoint={root / 'model.onnx'}", f"evaluate.num_gpus={count}"]
        process = command(
            "evaluate", *words, f"dataset.val.images={images}", *chosen, f"results_dir={tmp_path}/{count}"
        )
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 1
        lines.append([line for line in errors.splitlines() if not line.startswith(("note: ", "evaluate: "))])
        last_status = json.loads((tmp_path / str(count) / "evaluate" / "status.json").read_text().splitlines()[-1])
        assert (last_status["status"], last_status["message"]) == ("FAILURE", lines[-1][0])
    assert lines[0] == lines[1]
    assert len(lines[0]) == 1
    assert lines[0][0].startswith(f"{last}: damaged image")


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_all_processes_with_one_line(
    repository: Path, words: tuple[str, ...], tmp_path: Path, number: int, code: int, line: str
) -> None:
    root, images = Path(words[-1].partition("=")[2]), tmp_path / "images"
    images.mkdir()
    for path in (repository / PICTURES).iterdir():
        for copy in range(10):
            (images / f"{copy}_{path.name}").symlink_to(path)
    chosen = [f"inference.checkpoint={root / 'model.pth'}", f"inference.images_dir={images}", "inference.num_gpus=2"]
    process = command("inference", *words, *chosen, f"results_dir={tmp_path}")
    deadline = time.monotonic() + LIMIT
    while not list(tmp_path.glob("inference/semantic/overlay/*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(listed) == 2
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == code
    assert [said for said in errors.splitlines() if not said.startswith(("note: ", "inference: "))] == [line]
    assert not any(Path(f"/proc/{child}").exists() for child in listed)
    assert not [path for path in tmp_path.rglob("*.tmp")]
