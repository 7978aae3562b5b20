"""`info` of engine files, where no TensorRT is looked for."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from tiny_onnx import LABELS, manifest

from oneformer_deploy.__main__ import main
from oneformer_deploy.engines.engine_file import EngineFacts, EngineFile
from oneformer_spec.files import encryption
from oneformer_spec.segmentation.manifest import Manifest

FACTS = EngineFacts("tensorrt_rtx", "1.7.1", "fp16", (1, 2, 4), None)
ENGINE = bytes(range(256)) * 4


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "m.engine"
    EngineFile(manifest(), FACTS, ENGINE).write(path)
    return path


def rows(text: str) -> dict[str, str]:
    return {line[:11].strip(): line[12:] for line in text.splitlines()}


def test_it_shows_what_the_engine_was_built_for(engine, capsys):
    assert main(["info", str(engine)]) == 0
    found = rows(capsys.readouterr().out)
    assert found["engine"] == "tensorrt_rtx 1.7.1, fp16"
    assert found["batch"] == "1 to 4, tuned for 2"
    assert found["built on"] == "a host without a GPU"
    assert found["file"] == f"{engine} (0.0 MB)"
    assert (found["model"], found["made by"], found["classes"]) == ("tiny", "oneformer-model 0.1.0", "3")


def test_a_fixed_batch_and_a_gpu(engine, capsys):
    EngineFile(manifest(), replace(FACTS, batch=(3, 3, 3), gpu="a GPU"), ENGINE).write(engine)
    assert main(["info", str(engine)]) == 0
    found = rows(capsys.readouterr().out)
    assert (found["batch"], found["built on"]) == ("3", "a GPU")


def test_as_json(engine, capsys):
    assert main(["info", str(engine), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert Manifest.from_dict(document, "stdout").labels == LABELS
    assert document["file"] == {
        "bytes": len(ENGINE),
        "library": "tensorrt_rtx",
        "version": "1.7.1",
        "data_type": "fp16",
        "batch": [1, 2, 4],
        "gpu": None,
    }


def test_the_engine_itself_is_not_read(engine, capsys):
    engine.write_bytes(engine.read_bytes()[: -len(ENGINE)] + bytes(len(ENGINE)))
    assert main(["info", str(engine)]) == 0


def test_a_truncated_engine_is_reported(engine, capsys):
    engine.write_bytes(engine.read_bytes()[:-1])
    assert main(["info", str(engine)]) == 1
    assert capsys.readouterr().err == f"{engine}: is truncated: found 1023 bytes of the engine, the header says 1024\n"


def test_a_checkpoint_is_reported(tmp_path, capsys):
    assert main(["info", str(tmp_path / "m.pth")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/m.pth: info reads .onnx, .etlt and .engine files, not checkpoints\n"


def test_no_library_is_loaded(engine):
    heavy = {"tensorrt", "tensorrt_rtx", "cuda", "onnx", "onnxruntime", "torch", "PIL", "yaml"}
    script = (
        "import sys; from oneformer_deploy.__main__ import main;"
        f"main(['info', {str(engine)!r}]); print(sorted({heavy!r} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_an_encrypted_engine_takes_the_key_from_the_environment(engine, monkeypatch, capsys):
    pytest.importorskip("cryptography")
    monkeypatch.setattr(encryption, "COST", encryption.Cost(4, 8, 1))
    monkeypatch.delenv(encryption.KEY_VARIABLE, raising=False)
    assert main(["info", str(engine)]) == 0
    plain = capsys.readouterr().out
    EngineFile(manifest(), FACTS, ENGINE).write(engine, "key")
    assert ENGINE not in engine.read_bytes()
    assert main(["info", str(engine)]) == 1
    assert capsys.readouterr().err == f"{engine}: is encrypted; set encryption_key or {encryption.KEY_VARIABLE}\n"
    monkeypatch.setenv(encryption.KEY_VARIABLE, "another")
    assert main(["info", str(engine)]) == 1
    assert capsys.readouterr().err == f"{engine}: was encrypted with another encryption_key\n"
    monkeypatch.setenv(encryption.KEY_VARIABLE, "key")
    assert main(["info", str(engine)]) == 0
    assert capsys.readouterr().out == plain
