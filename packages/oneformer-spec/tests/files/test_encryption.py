"""Encrypted files: what was written comes back with the key, and everything else is one clear error."""

import io
import os
import struct
import sys
import zlib

import pytest

from oneformer_spec.errors import CheckpointError, EncryptionKeyError, UsageError
from oneformer_spec.files import encryption
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import (
    HEADER_BYTES,
    MAGIC,
    TAG_BYTES,
    Cost,
    encrypted,
    is_encrypted,
    open_decrypted,
)

pytest.importorskip("cryptography")

KEY = "correct horse battery staple"
PLAIN = bytes(range(256)) * 20


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Derive keys in microseconds, and hear nothing of the environment."""
    monkeypatch.setattr(encryption, "COST", Cost(4, 8, 1))
    monkeypatch.delenv(encryption.KEY_VARIABLE, raising=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.pth"
    write_atomically(path, encrypted(PLAIN, KEY))
    return path


def read(path, key=KEY):
    with open_decrypted(path, key) as plain:
        return plain.read()


def with_header(path, position, value):
    """Change bytes of the header and mend its checksum, as someone would who knows the format."""
    data = bytearray(path.read_bytes())
    data[position : position + len(value)] = value
    data[HEADER_BYTES - 4 : HEADER_BYTES] = struct.pack("<I", zlib.crc32(data[: HEADER_BYTES - 4]))
    path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**21 + 5])
def test_content_of_any_length_comes_back(tmp_path, size):
    content = os.urandom(size)
    write_atomically(tmp_path / "file", encrypted(content, KEY))
    assert (tmp_path / "file").stat().st_size == HEADER_BYTES + size + TAG_BYTES
    assert read(tmp_path / "file") == content


@pytest.mark.parametrize("content", [PLAIN, "Größe", lambda file: (file.write(b"a"), file.write(memoryview(b"bc")))])
def test_bytes_text_and_functions_are_encrypted(tmp_path, content):
    write_atomically(tmp_path / "file", encrypted(content, KEY))
    assert read(tmp_path / "file") in (PLAIN, "Größe".encode(), b"abc")


def test_nothing_of_the_content_or_the_key_is_in_the_file(file):
    data = file.read_bytes()
    assert is_encrypted(file)
    assert data.startswith(MAGIC)
    assert PLAIN[:8] not in data
    assert KEY.encode() not in data


def test_the_same_content_looks_different_every_time(tmp_path, file):
    write_atomically(tmp_path / "again", encrypted(PLAIN, KEY))
    once, again = file.read_bytes(), (tmp_path / "again").read_bytes()
    assert once[HEADER_BYTES:] != again[HEADER_BYTES:]


def test_without_a_key_nothing_changes(tmp_path):
    write_atomically(tmp_path / "plain", encrypted(PLAIN, None))
    assert (tmp_path / "plain").read_bytes() == PLAIN
    assert not is_encrypted(tmp_path / "plain")
    assert read(tmp_path / "plain") == PLAIN
    assert read(tmp_path / "plain", None) == PLAIN
    assert not is_encrypted(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


def test_the_key_comes_from_the_environment_where_none_is_given(file, monkeypatch):
    monkeypatch.setenv(encryption.KEY_VARIABLE, KEY)
    assert read(file, None) == PLAIN
    with pytest.raises(EncryptionKeyError):
        read(file, "another")  # what is given wins


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "is encrypted; set encryption_key or ONEFORMER_ENCRYPTION_KEY"),
        ("another", "with another encryption_key"),
    ],
)
def test_a_missing_and_a_wrong_key_are_told_apart(file, key, message):
    with pytest.raises(EncryptionKeyError, match=message) as caught:
        read(file, key)
    assert str(caught.value).startswith(f"{file}: ")
    assert KEY not in str(caught.value)


def test_every_changed_byte_is_noticed_and_never_taken_for_a_wrong_key(file):
    good = file.read_bytes()
    for position in [*range(len(MAGIC), HEADER_BYTES), HEADER_BYTES, len(good) // 2, len(good) - TAG_BYTES, -1]:
        bad = bytearray(good)
        bad[position] ^= 1
        file.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"model\.pth: is damaged: ") as caught:
            read(file)
        assert not isinstance(caught.value, EncryptionKeyError)


@pytest.mark.parametrize("length", [len(MAGIC), HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + TAG_BYTES - 1, 500, -1])
def test_a_file_that_ends_early_is_damaged(file, length):
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"model\.pth: is damaged: "):
        read(file)


def test_more_after_the_end_is_damage(file):
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="is damaged: its content does not match its authentication tag"):
        read(file)


def test_the_seal_covers_the_header(file):
    with_header(file, HEADER_BYTES - 4 - 16 - 12, os.urandom(12))  # another nonce, with a fitting checksum
    with pytest.raises(CheckpointError, match="is damaged: its content does not match its authentication tag"):
        read(file)


@pytest.mark.parametrize(
    "cost", [(19, 8, 1), (255, 8, 1), (17, 255, 1), (17, 8, 255), (0, 8, 1), (17, 0, 1), (17, 8, 0)]
)
def test_a_file_cannot_ask_for_any_cost_it_likes(file, cost, monkeypatch):
    with_header(file, len(MAGIC) + 1, bytes(cost))
    monkeypatch.setattr(encryption, "_derive", lambda *_: pytest.fail("the cost was paid"))
    with pytest.raises(CheckpointError, match=r"refused: it requires scrypt with .*, the limit is "):
        read(file)


def test_a_later_format_is_named(file):
    with_header(file, len(MAGIC), bytes([2]))
    with pytest.raises(CheckpointError, match="has encryption format 2, but this version reads 1"):
        read(file)


def test_the_header_says_what_it_costs(file, monkeypatch):
    monkeypatch.setattr(encryption, "COST", Cost(5, 4, 2))
    assert read(file) == PLAIN  # with the cost of its own time


def test_the_format_stays_readable(tmp_path, monkeypatch):
    """A file written once, byte for byte: key "key", content "content"."""
    monkeypatch.setattr(os, "urandom", lambda count: bytes(range(count)))
    encryption._process_salt.cache_clear()
    buffer = io.BytesIO()
    write = encrypted(b"content", "key")
    assert callable(write)
    write(buffer)
    encryption._process_salt.cache_clear()
    kept = bytes.fromhex(FIXED)
    assert buffer.getvalue() == kept
    (tmp_path / "kept").write_bytes(kept)
    assert read(tmp_path / "kept", "key") == b"content"


def test_without_cryptography_one_line_says_what_to_install(file, monkeypatch):
    monkeypatch.setattr(encryption, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "cryptography", raising=False)
    for action in (lambda: read(file), lambda: write_atomically(file, encrypted(b"", KEY))):
        with pytest.raises(UsageError, match=r"pip install 'oneformer-spec\[encryption\]'"):
            action()
    assert is_encrypted(file)


FIXED = (
    "894f6e65466d720a01040801000102030405060708090a0b0c0d0e0f000102030405060708090a0b9713a8e0634104ba54dd"
    "116d100fa3a9dc1fcca2e2349b7259586670ded0a918f2b5d89e3a8e75b38462d6"
)
