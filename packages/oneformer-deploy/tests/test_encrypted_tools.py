"""`quantize` and `gen_trt_engine` read and write encrypted files, of which nothing lies on a disk in the clear."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_onnx import write_model

pytest.importorskip("cryptography")
pytest.importorskip("onnx")
pytest.importorskip("sympy")

import onnx

from oneformer_deploy import gen_trt_engine
from oneformer_deploy.engines import library as tensorrt_library
from oneformer_deploy.engines.engine_file import read_engine_file
from oneformer_deploy.engines.library import Built
from oneformer_deploy.quantization import command as quantize
from oneformer_deploy.quantization import scratch
from oneformer_deploy.runtimes.onnx_metadata import read_onnx_file
from oneformer_spec.errors import EncryptionKeyError, OneFormerError, SpecError
from oneformer_spec.files import encryption
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import encrypted, is_encrypted, open_decrypted
from oneformer_spec.loading.load import load_spec

KEY = "a key of the tests"
SECRET = b"mask_bias"  # what the plain graph calls its weights
Run = Callable[..., Path]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "COST", encryption.Cost(4, 8, 1))
    monkeypatch.delenv(encryption.KEY_VARIABLE, raising=False)


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The temporary folders that were made."""
    made: list[Path] = []
    make = tempfile.mkdtemp

    def listen(*arguments: str | None, **options: str | None) -> str:
        made.append(Path(make(*arguments, **options)))
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", listen)
    return made


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A model that an engine can be built of, encrypted."""
    plain = write_model(tmp_path / "m.onnx", image=("batch", 3, 64, 64), length=77)
    path = tmp_path / "m.etlt"
    write_atomically(path, encrypted(plain.read_bytes(), KEY))
    plain.unlink()
    return path


@pytest.fixture
def run_quantize(sealed: Path, tmp_path: Path) -> Run:
    def start(*words: str) -> Path:
        base = [f"results_dir={tmp_path}", f"quantize.model_path={sealed}", f"encryption_key={KEY}", *words]
        quantize.run(load_spec([], base).spec)
        return tmp_path / "quantize"

    return start


def static(pictures: Path) -> tuple[str, ...]:
    images = f"dataset.quant_calibration_dataset.images_dir={pictures}"
    return "quantize.mode=static_ptq", "quantize.max_metric_drop=1", images


def in_the_clear(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and SECRET in path.read_bytes()]


def test_weights_of_an_encrypted_file(run_quantize: Run, sealed: Path, tmp_path: Path, folders: list[Path]) -> None:
    folder = run_quantize()
    assert is_encrypted(folder / "model_int8.etlt")
    with open_decrypted(folder / "model_int8.etlt", KEY) as file:
        operators = [node.op_type for node in onnx.load_from_string(file.read()).graph.node]
    assert "DequantizeLinear" in operators
    assert json.loads((folder / "quantize.json").read_text())["quantized"] == ["Conv_1"]
    assert in_the_clear(tmp_path) == [] and folders == []
    assert KEY not in (folder / "experiment.yaml").read_text()


def test_int8_layers_of_an_encrypted_file(
    run_quantize: Run, pictures: Path, tmp_path: Path, folders: list[Path]
) -> None:
    path = run_quantize(*static(pictures)) / "model_int8.etlt"
    assert json.loads(read_onnx_file(path, KEY).metadata["oneformer_quantized"])["mode"] == "static_ptq"
    with open_decrypted(path, KEY) as file:
        assert "QuantizeLinear" in [node.op_type for node in onnx.load_from_string(file.read()).graph.node]
    assert folders and all(scratch._is_in_memory(folder.parent) for folder in folders)
    assert not any(folder.exists() for folder in folders)
    assert in_the_clear(tmp_path) == [] and tempfile.tempdir != "/dev/shm"


def test_a_key_encrypts_the_result_of_a_plain_file(run_quantize: Run, tmp_path: Path) -> None:
    plain = write_model(tmp_path / "plain.onnx")
    folder = run_quantize(f"quantize.model_path={plain}")
    assert is_encrypted(folder / "model_int8.onnx")


def test_without_a_folder_in_memory_nothing_is_written(
    run_quantize: Run, sealed: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "MOUNTS", tmp_path / "none")
    with pytest.raises(OneFormerError) as caught:
        run_quantize(*static(pictures))
    assert str(caught.value) == (
        f"{sealed}: is encrypted, so its temporary files must be in memory; they need 0 MB, but no such folder was "
        "found; set TMPDIR to a folder on a larger tmpfs"
    )
    assert not (tmp_path / "quantize").exists()


def test_the_first_folder_in_memory_with_room_is_taken(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp dir" / "below").mkdir(parents=True)
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(scratch, "MOUNTS", mounts)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp dir" / "below"))
    mounts.write_text(f"disk / ext4 rw 0 0\ntmpfs {tmp_path}/tmp\\040dir tmpfs rw 0 0\n")
    with scratch.safe_temporary_folder(sealed):
        assert tempfile.gettempdir() == str(tmp_path / "tmp dir" / "below")
    monkeypatch.setattr(scratch, "COPIES", 10**12)
    with (
        pytest.raises(OneFormerError, match=r"they need \d{6,} MB, .*/tmp dir/below has \d+ MB free; set TMPDIR"),
        scratch.safe_temporary_folder(sealed),
    ):
        pass


class Library:
    """Takes a graph in TensorRT's place."""

    name, version, times_kernels = "tensorrt_rtx", "1.0", False

    def build(self, graph: bytes, profile: object, **settings: object) -> Built:
        return Built(b"engine of " + graph, None)


@pytest.fixture
def build(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(tensorrt_library, "load", lambda verbose: Library())
    monkeypatch.setattr(gen_trt_engine, "_select_gpu", lambda index, library: None)

    def start(*words: str) -> Path:
        base = [f"results_dir={tmp_path}", f"gen_trt_engine.onnx_file={sealed}", *words]
        gen_trt_engine.run(load_spec([], base).spec)
        return tmp_path / "gen_trt_engine" / "model.engine"

    return start


@pytest.mark.parametrize("data_type", ["fp16", "int8"])
def test_an_engine_of_an_encrypted_file(
    build: Run, pictures: Path, tmp_path: Path, folders: list[Path], data_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = f"dataset.quant_calibration_dataset.images_dir={pictures}"
    path = build(f"encryption_key={KEY}", f"gen_trt_engine.tensorrt.data_type={data_type}", images)
    assert is_encrypted(path)
    assert SECRET in read_engine_file(path, KEY).engine
    assert in_the_clear(tmp_path) == []
    assert all(scratch._is_in_memory(folder.parent) for folder in folders) and bool(folders) == (data_type == "int8")
    assert capsys.readouterr().out.rstrip().endswith(", encrypted)")


def test_without_its_key_nothing_is_made(build: Run, run_quantize: Run, tmp_path: Path) -> None:
    for start in (build, run_quantize):
        with pytest.raises(EncryptionKeyError, match=r"m\.etlt: was encrypted with another encryption_key"):
            start("encryption_key=another")
    with pytest.raises(EncryptionKeyError, match=r"m\.etlt: is encrypted; set encryption_key"):
        build()
    assert not (tmp_path / "quantize").exists() and not (tmp_path / "gen_trt_engine").exists()


def test_a_damaged_graph_is_one_line(build: Run, run_quantize: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path / "damaged.onnx")
    content = path.read_bytes()
    at = content.index(b"AveragePool") - 1  # the length of the operator's name
    path.write_bytes(content[:at] + b"\x7f" + content[at + 1 :])
    for start, field in ((build, "gen_trt_engine.onnx_file"), (run_quantize, "quantize.model_path")):
        with pytest.raises(OneFormerError, match=r"damaged\.onnx: onnx cannot load it: ") as caught:
            start(f"{field}={path}")
        assert "\n" not in str(caught.value)


def test_another_suffix_is_reported(run_quantize: Run) -> None:
    with pytest.raises(SpecError, match=r"onnxruntime quantizes \.onnx and \.etlt files; for \.pth files set backend"):
        run_quantize("quantize.model_path=a.pth")
