"""Model files and hosts that do not work: one line, the exit code, and no results, from both programs alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from acts.settings import write_graph
from PIL import Image

from oneformer_cli.main import main as cli
from oneformer_deploy import extras, gen_trt_engine
from oneformer_deploy.__main__ import main as module
from oneformer_deploy.engines import library as tensorrt_library
from oneformer_deploy.engines.engine_file import EngineFacts, EngineFile
from oneformer_deploy.runtimes import gpu_memory, openvino_runtime
from oneformer_deploy.runtimes.onnx_metadata import read_onnx_file
from oneformer_model.commands import quantize as torch_quantize
from oneformer_spec.files import encryption
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import encrypted

ENGINE = EngineFacts("tensorrt_rtx", "0.1", "fp16", (1, 1, 1), None)
Files = dict[str, Path]
Fails = Callable[..., tuple[int, str]]


def _oneformer(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli(words)
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has no key, and keys are derived cheaply."""
    monkeypatch.setattr(encryption, "COST", encryption.Cost(4, 8, 1))
    monkeypatch.delenv(encryption.KEY_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def files(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Bad files by what is wrong with them, a good graph, and a folder of one picture."""
    folder = tmp_path_factory.mktemp("bad")
    found = {"good": write_graph(repository, folder / "good.onnx"), "images": folder / "images"}
    found["images"].mkdir()
    Image.new("RGB", (64, 64)).save(found["images"] / "a.png")
    content = found["good"].read_bytes()
    graph = onnx.load(found["good"])
    del graph.metadata_props[:]
    engine = folder / "whole.engine"
    EngineFile(read_onnx_file(found["good"]).manifest(), ENGINE, b"engine").write(engine)
    written = {
        "truncated.onnx": content[:-100],
        "empty.onnx": b"",
        "text.onnx": b"<html>404 not found</html>",
        "foreign.onnx": graph.SerializeToString(),
        "truncated.engine": engine.read_bytes()[:-1],
        "empty.engine": b"",
        "foreign.engine": b"ptrt" + bytes(99),
        "other_version.engine": engine.read_bytes(),
    }
    written |= {"good.pth": b"", "labels.json": b"{}"}  # which nothing gets to read
    sealed = {"sealed.etlt": content, "sealed.engine": engine.read_bytes()}
    for name, data in (written | sealed).items():
        found[name] = folder / name
        write_atomically(found[name], encrypted(data, "key") if name in sealed else data)
    return found


@pytest.fixture(params=[_oneformer, module], ids=["oneformer", "module"])
def fails(request: pytest.FixtureRequest, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Return a function that runs a command with a model: the exit code and the one line, notes left out."""

    def start(command: str, model: Path, *words: str) -> tuple[int, str]:
        engine = model.suffix == ".engine"
        field = {
            "inference": f"inference.{'trt_engine' if engine else 'checkpoint'}",
            "evaluate": f"evaluate.{'trt_engine' if engine else 'checkpoint'}",
            "gen_trt_engine": "gen_trt_engine.onnx_file",
            "quantize": "quantize.model_path",
        }
        settings = [f"{field[command]}={model}", f"results_dir={tmp_path / 'results'}"] if command in field else []
        if command == "inference":
            settings.append(f"inference.images_dir={files['images']}")
        if command == "evaluate":
            settings += [f"dataset.test.images={files['images']}", f"dataset.test.annotations={files['labels.json']}"]
        arguments = [command, *settings, *words] if settings else [command, str(model)]
        code = request.param(arguments)
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
        assert len(lines) == 1, lines
        return code, lines[0]

    return start


GRAPHS = ("inference", "evaluate", "info", "gen_trt_engine", "quantize")
ENGINES = ("inference", "evaluate", "info")


@pytest.mark.parametrize("command", GRAPHS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated.onnx", "is truncated: "),
        ("empty.onnx", "not an ONNX file: the file is empty"),
        ("text.onnx", "not an ONNX file: "),
        ("foreign.onnx", "this ONNX file (written by hand) has no oneformer manifest; `oneformer export` writes one"),
        ("sealed.etlt", "is encrypted; set encryption_key or ONEFORMER_ENCRYPTION_KEY"),
    ],
)
def test_a_bad_graph(fails: Fails, files: Files, tmp_path: Path, command: str, name: str, message: str) -> None:
    code, line = fails(command, files[name])
    assert code == 1
    assert line.startswith(f"{files[name]}: {message}")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ENGINES)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated.engine", "is truncated: found 5 bytes of the engine, the header says 6"),
        ("empty.engine", "is truncated: the file has only 0 bytes"),
        ("foreign.engine", "is not an engine file of oneformer; `oneformer gen_trt_engine` writes one"),
        ("sealed.engine", "is encrypted; set encryption_key or ONEFORMER_ENCRYPTION_KEY"),
    ],
)
def test_a_bad_engine(fails: Fails, files: Files, tmp_path: Path, command: str, name: str, message: str) -> None:
    code, line = fails(command, files[name])
    assert code == 1
    assert line == f"{files[name]}: {message}"
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("command", "name"),
    [*((command, "sealed.etlt") for command in GRAPHS), *((command, "sealed.engine") for command in ENGINES)],
)
def test_another_key(
    fails: Fails, files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, name: str
) -> None:
    monkeypatch.setenv(encryption.KEY_VARIABLE, "another")
    code, line = fails(command, files[name])
    assert (code, line) == (1, f"{files[name]}: was encrypted with another encryption_key")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ["inference", "evaluate"])
def test_an_engine_of_another_version(fails: Fails, files: Files, command: str) -> None:
    library = tensorrt_library.load("tensorrt_rtx")
    path = files["other_version.engine"]
    code, line = fails(command, path)
    expected = f"was built by tensorrt_rtx 0.1, but {library.version} is installed; build it again with gen_trt_engine"
    assert (code, line) == (1, f"{path}: {expected}")


ABSENT = {
    "openvino": (openvino_runtime, "inference", "good", ("inference.runtime=openvino",), "oneformer-deploy[openvino]"),
    "tensorrt": (tensorrt_library, "gen_trt_engine", "good", (), "oneformer-deploy[tensorrt]"),
    "an engine's library": (
        tensorrt_library,
        "inference",
        "other_version.engine",
        (),
        "oneformer-deploy[tensorrt-rtx]",
    ),
    "cuda": (gpu_memory, "gen_trt_engine", "good", (), "cuda-bindings"),
    "onnx": (extras, "quantize", "good", (), "oneformer-deploy[quantize]"),
    "torchao": (torch_quantize, "quantize", "good.pth", ("quantize.backend=torchao",), "oneformer-model[quantize]"),
    "cryptography": (encryption, "quantize", "good", ("encryption_key=key",), "oneformer-spec[encryption]"),
}


@pytest.mark.parametrize("what", ABSENT)
def test_a_missing_package_names_the_pip_command(
    fails: Fails, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place, command, name, words, package = ABSENT[what]
    monkeypatch.setattr(place, "find_spec", lambda name: None)
    code, line = fails(command, files[name], *words)
    assert code == 2
    assert "python -m pip install " in line and package in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ["gen_trt_engine", "quantize"])
def test_an_image_of_no_bytes_among_the_calibration_images(
    fails: Fails, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(gen_trt_engine, "_select_gpu", lambda index, library: None)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "none.png").touch()
    words = ("quantize.mode=static_ptq", "gen_trt_engine.tensorrt.data_type=int8")
    images = f"dataset.quant_calibration_dataset.images_dir={tmp_path / 'images'}"
    code, line = fails(command, files["good"], *words, images)
    assert code == 1
    assert line.startswith(f"{tmp_path / 'images' / 'none.png'}: the file is empty")
    assert not list(tmp_path.rglob("model*"))


@pytest.mark.parametrize("program", [_oneformer, module], ids=["oneformer", "module"])
def test_info_prints_the_same_from_both(
    program: Callable[[list[str]], int], files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "other_version.engine"):
        assert program(["info", str(files[name])]) == 0
        out = capsys.readouterr().out
        assert f"file        {files[name]} (" in out and "  7  thing  green  #1ea03c" in out
