from __future__ import annotations

import json

import pytest
from tiny_onnx import manifest

from oneformer_deploy.engines.engine_file import MAGIC, EngineFacts, EngineFile, read_engine_file
from oneformer_spec.errors import CheckpointError

FACTS = EngineFacts("tensorrt", "10.9.0", "fp16", (1, 2, 4), "a GPU")


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "m.engine"
    EngineFile(manifest(), FACTS, bytes(range(256)) * 4).write(path)
    return path


def one_line(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_engine_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_what_was_written_is_read(engine):
    found = read_engine_file(engine)
    assert found == EngineFile(manifest(), FACTS, bytes(range(256)) * 4)


def test_every_truncated_file_is_reported(engine, tmp_path):
    whole, path = engine.read_bytes(), tmp_path / "cut.engine"
    for end in range(0, len(whole), 13):
        path.write_bytes(whole[:end])
        assert "is truncated" in one_line(path), end


def test_a_changed_byte_is_reported(engine):
    content = bytearray(engine.read_bytes())
    content[-1] ^= 1
    engine.write_bytes(content)
    assert one_line(engine).endswith("is damaged: its checksum does not match")


def test_a_foreign_engine_is_reported(tmp_path):
    path = tmp_path / "m.engine"
    path.write_bytes(b"ptrt" + bytes(100))
    assert "is not an engine file of oneformer; `oneformer gen_trt_engine` writes one" in one_line(path)


def test_a_missing_file_is_reported(tmp_path):
    assert one_line(tmp_path / "none.engine").endswith("does not exist")


def with_header(path, **changes):
    content = path.read_bytes()
    start = len(MAGIC) + 8
    end = start + int.from_bytes(content[len(MAGIC) : start], "big")
    text = json.dumps(json.loads(content[start:end]) | changes).encode()
    path.write_bytes(MAGIC + len(text).to_bytes(8, "big") + text + content[end:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has engine format 2, but this version reads 1; update oneformer-deploy"),
        ({"format": None}, "its header is damaged"),
        ({"batch": [1, 2]}, "its header is damaged"),
        ({"manifest": {}}, "contains no oneformer manifest"),
    ],
)
def test_a_header_that_is_wrong_is_reported(engine, changes, message):
    with_header(engine, **changes)
    assert message in one_line(engine)
