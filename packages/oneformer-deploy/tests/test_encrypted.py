"""Encrypted ONNX files run, and `info` reads them, with the key alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oneformer_deploy.__main__ import main
from oneformer_deploy.runtimes import onnxruntime_runtime
from oneformer_spec.errors import CheckpointError, EncryptionKeyError
from oneformer_spec.files import encryption
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import encrypted
from oneformer_spec.plugins.registry import registry
from oneformer_spec.tasks import Task

pytest.importorskip("cryptography")


@pytest.fixture
def sealed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model, encrypted with the key "key"."""
    monkeypatch.setattr(encryption, "COST", encryption.Cost(4, 8, 1))
    monkeypatch.delenv(encryption.KEY_VARIABLE, raising=False)
    path = tmp_path / "sealed" / "model.etlt"
    write_atomically(path, encrypted(model.read_bytes(), "key"))
    return path


def test_it_finds_what_the_plain_file_finds(model: Path, sealed: Path, scene: np.ndarray) -> None:
    assert registry().runtime(str(sealed)).name == "onnxruntime"
    plain = onnxruntime_runtime.open(model, "cpu").predict([scene], Task.PANOPTIC)[0]
    found = onnxruntime_runtime.open(sealed, "cpu", key="key").predict([scene], Task.PANOPTIC)[0]
    np.testing.assert_array_equal(found.map, plain.map)
    assert [path.name for path in sealed.parent.iterdir()] == ["model.etlt"]


def test_without_its_key_it_is_not_read(sealed: Path) -> None:
    with pytest.raises(EncryptionKeyError, match=r"model\.etlt: is encrypted; set encryption_key"):
        onnxruntime_runtime.open(sealed, "cpu")
    with pytest.raises(EncryptionKeyError, match=r"model\.etlt: was encrypted with another encryption_key"):
        onnxruntime_runtime.open(sealed, "cpu", key="another")
    sealed.write_bytes(sealed.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"model\.etlt: is damaged: its content does not match its authentication"
    ):
        onnxruntime_runtime.open(sealed, "cpu", key="key")


def test_a_command_takes_the_key_from_the_spec(
    sealed: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"inference.checkpoint={sealed}", f"inference.images_dir={pictures}", f"results_dir={tmp_path}/results"]
    assert main(["inference", *words]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{sealed}: is encrypted; set encryption_key or ")
    assert main(["inference", *words, "encryption_key=key"]) == 0
    assert len(list((tmp_path / "results").rglob("labels/**/*.png"))) == 3
    assert "encryption_key=key" not in (tmp_path / "results" / "inference" / "experiment.yaml").read_text()


def test_info_takes_the_key_from_the_environment(
    model: Path, sealed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(sealed)]) == 1
    monkeypatch.setenv(encryption.KEY_VARIABLE, "key")
    assert main(["info", str(model)]) == 0
    plain = capsys.readouterr().out.replace(str(model), str(sealed))
    assert main(["info", str(sealed)]) == 0
    assert capsys.readouterr().out == plain
