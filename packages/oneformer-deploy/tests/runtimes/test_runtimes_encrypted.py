"""Encrypted model files run like plain ones, and nothing of them is ever written in the clear."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_onnx
from tiny_onnx import field, write_model

from oneformer_deploy.__main__ import main
from oneformer_deploy.runtimes import onnxruntime_runtime, openvino_runtime
from oneformer_spec.errors import CheckpointError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import KEY_VARIABLE, encrypted
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.tasks import Task

pytest.importorskip("cryptography")
pytest.importorskip("openvino")
KEY = "a key of the tests"
RUNTIMES = pytest.mark.parametrize(
    "open_model", [onnxruntime_runtime.open, openvino_runtime.open], ids=["onnxruntime", "openvino"]
)
Open = Callable[..., Segmenter]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has no key."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def sealed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, encrypted."""
    path = tmp_path_factory.mktemp("sealed") / "tiny.etlt"
    write_atomically(path, encrypted(model.read_bytes(), KEY))
    return path


@RUNTIMES
def test_it_runs_like_the_plain_file_and_no_file_is_written(
    open_model: Open, model: Path, sealed: Path, scene: np.ndarray
) -> None:
    written: list[object] = []
    listening = True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+"):
            written.append(arguments[0])

    sys.addaudithook(listen)
    (found,) = open_model(sealed, key=KEY).predict([scene], Task.PANOPTIC)
    listening = False
    (expected,) = onnxruntime_runtime.open(model).predict([scene], Task.PANOPTIC)
    np.testing.assert_array_equal(found.map, expected.map)
    assert found.segments == expected.segments
    assert written == []
    assert [path.name for path in sealed.parent.iterdir()] == ["tiny.etlt"]


@RUNTIMES
def test_a_missing_or_another_key_is_one_line(open_model: Open, sealed: Path) -> None:
    for key, message in ((None, "is encrypted; set encryption_key"), ("other", "was encrypted with another")):
        with pytest.raises(CheckpointError) as caught:
            open_model(sealed, key=key)
        assert str(caught.value).startswith(f"{sealed}: {message}")
        assert "\n" not in str(caught.value)


@RUNTIMES
def test_a_truncated_file_is_one_line(open_model: Open, sealed: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.etlt"
    path.write_bytes(sealed.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is damaged"):
        open_model(path, key=KEY)


@RUNTIMES
def test_weights_beside_an_encrypted_file_are_refused(
    open_model: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_tensor = tiny_onnx.tensor

    def tensor(name: str, values: np.ndarray) -> bytes:
        if name != "mask_bias":
            return plain_tensor(name, values)
        (tmp_path / "weights.bin").write_bytes(values.tobytes())
        place = field(13, field(1, "location") + field(2, "weights.bin"))
        return field(5, field(1, len(values)) + field(2, 1) + field(8, name) + place + field(14, 1))

    monkeypatch.setattr(tiny_onnx, "tensor", tensor)
    plain, path = write_model(tmp_path / "m.onnx"), tmp_path / "m.etlt"
    write_atomically(path, encrypted(plain.read_bytes(), KEY))
    with pytest.raises(CheckpointError) as caught:
        open_model(path, key=KEY)
    assert str(caught.value) == f"{path}: is encrypted but stores weights in other files; export the model again"


def test_info_asks_for_the_key(
    sealed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(sealed)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{sealed}: is encrypted; set encryption_key or {KEY_VARIABLE}"
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert main(["info", str(sealed)]) == 0
    assert "tiny" in capsys.readouterr().out
