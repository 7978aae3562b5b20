"""Encrypt and decrypt model files with AES-256-GCM, using a key that scrypt derives from the user's key.

A file consists of a header, the ciphertext, and GCM's authentication tag (NIST SP 800-38D) over both. The header holds
the format number, scrypt's cost parameters (RFC 7914) and salt, the nonce, a key check, and a checksum, so that a wrong
key, a damaged header and damaged content are told apart. The key check is a second block of scrypt's output: guessing
keys with it is as expensive as guessing them with the tag.
"""

from __future__ import annotations

import hmac
import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from oneformer_spec.errors import CheckpointError, EncryptionKeyError, UsageError
from oneformer_spec.files.atomic import FileContent

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext

KEY_VARIABLE = "ONEFORMER_ENCRYPTION_KEY"

MAGIC = b"\x89OneFmr\n"
FORMAT = 1
SALT_BYTES, NONCE_BYTES, KEY_BYTES, CHECK_BYTES, TAG_BYTES = 16, 12, 32, 16, 16
_FIELDS = struct.Struct(f"<8s4B{SALT_BYTES}s{NONCE_BYTES}s{CHECK_BYTES}s")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CHECKSUM.size
_CHUNK = 2**20  # bytes that are encrypted or decrypted at a time


class Cost(NamedTuple):
    """The cost parameters of scrypt: it uses 128 · 2^log_n · r bytes of memory and time proportional to that and p."""

    log_n: int
    r: int
    p: int


COST = Cost(log_n=17, r=8, p=1)
"""128 MiB and a third of a second, as recommended by OWASP's password storage cheat sheet."""
MAX_COST = Cost(log_n=18, r=8, p=4)
"""The most that a file may require: 256 MiB and a few seconds."""


class _Header(NamedTuple):
    cost: Cost
    salt: bytes
    nonce: bytes
    key_check: bytes

    def to_bytes(self) -> bytes:
        fields = _FIELDS.pack(MAGIC, FORMAT, *self.cost, self.salt, self.nonce, self.key_check)
        return fields + _CHECKSUM.pack(zlib.crc32(fields))


def key_of_environment() -> str | None:
    """Return the value of ONEFORMER_ENCRYPTION_KEY; None if it is empty or not set."""
    return os.environ.get(KEY_VARIABLE) or None


def check_installed() -> None:
    """Check that the package for encryption is installed.

    Raises:
        UsageError: It is not; the message gives the pip command.
    """
    if find_spec("cryptography") is None:
        raise UsageError(
            "encryption_key: encrypted model files need cryptography; "
            "install it with: python -m pip install 'oneformer-spec[encryption]'"
        )


def encrypted(content: FileContent, key: str | None) -> FileContent:
    """Return the encrypted form of `content`, to pass to `write_atomically`; without a key, `content` itself."""
    if key is None:
        return content
    secret = key

    def write(file: BinaryIO) -> None:
        writer = _EncryptingWriter(file, secret)
        if callable(content):
            content(writer)  # type: ignore[arg-type]  # only its methods write and flush are used
        else:
            writer.write(content.encode() if isinstance(content, str) else content)
        writer.finish()

    return write


@contextmanager
def open_decrypted(path: str | Path, key: str | None = None) -> Iterator[BinaryIO]:
    """Open a file for reading; if it is encrypted, decrypt it in memory and verify it first.

    Without `key`, the value of ONEFORMER_ENCRYPTION_KEY is used.

    Raises:
        OSError: The file cannot be opened.
        EncryptionKeyError: The file is encrypted, and the key is missing or wrong.
        CheckpointError: The file is encrypted and damaged.
        UsageError: The file is encrypted, and the package for decryption is not installed.
    """
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            file.seek(0)
            yield file
            return
        file.seek(0)
        plain = _decrypted(file, path, key)
    yield plain


def is_encrypted(path: str | Path) -> bool:
    """Whether a file is encrypted by this module; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class _EncryptingWriter:
    """A writable file object that encrypts what is written to it."""

    def __init__(self, file: BinaryIO, key: str) -> None:
        check_installed()
        salt = _process_salt()
        secret, key_check = _derive(key, salt, COST)
        header = _Header(COST, salt, os.urandom(NONCE_BYTES), key_check)
        self._file = file
        self._encryptor = _encryptor(secret, header)
        file.write(header.to_bytes())

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK):
            self._file.write(self._encryptor.update(view[start : start + _CHUNK]))
        return len(view)

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        """Write the rest of the ciphertext and the authentication tag."""
        self._file.write(self._encryptor.finalize() + self._encryptor.tag)


def _encryptor(secret: bytes, header: _Header) -> AEADEncryptionContext:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(secret), modes.GCM(header.nonce)).encryptor()
    encryptor.authenticate_additional_data(header.to_bytes())
    return encryptor


def _decrypted(file: BinaryIO, path: str | Path, key: str | None) -> io.BytesIO:
    header = _read_header(file, path)
    key = key or key_of_environment()
    if key is None:
        raise EncryptionKeyError(f"{path}: is encrypted; set encryption_key or {KEY_VARIABLE}")
    check_installed()
    secret, key_check = _derive(key, header.salt, header.cost)
    if not hmac.compare_digest(key_check, header.key_check):
        raise EncryptionKeyError(f"{path}: was encrypted with another encryption_key")

    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    decryptor = Cipher(algorithms.AES(secret), modes.GCM(header.nonce)).decryptor()
    decryptor.authenticate_additional_data(header.to_bytes())
    remaining = os.fstat(file.fileno()).st_size - HEADER_BYTES - TAG_BYTES
    if remaining < 0:
        raise CheckpointError(f"{path}: is damaged: the file ends before its authentication tag")
    plain = io.BytesIO()
    while remaining > 0 and (chunk := file.read(min(_CHUNK, remaining))):
        remaining -= len(chunk)
        plain.write(decryptor.update(chunk))
    try:
        plain.write(decryptor.finalize_with_tag(file.read(TAG_BYTES)))
    except (InvalidTag, ValueError):
        raise CheckpointError(f"{path}: is damaged: its content does not match its authentication tag") from None
    plain.seek(0)
    return plain


def _read_header(file: BinaryIO, path: str | Path) -> _Header:
    data = file.read(HEADER_BYTES)
    if len(data) < HEADER_BYTES:
        raise CheckpointError(f"{path}: is damaged: the file ends inside its encryption header")
    _, version, log_n, r, p, salt, nonce, key_check = _FIELDS.unpack_from(data)
    if zlib.crc32(data[: _FIELDS.size]) != _CHECKSUM.unpack_from(data, _FIELDS.size)[0]:
        raise CheckpointError(f"{path}: is damaged: its encryption header does not match its checksum")
    if version != FORMAT:
        raise CheckpointError(f"{path}: has encryption format {version}, but this version reads {FORMAT}")
    cost = Cost(log_n, r, p)
    if min(cost) < 1 or any(required > limit for required, limit in zip(cost, MAX_COST, strict=True)):
        raise CheckpointError(f"{path}: refused: it requires scrypt with {cost}, the limit is {MAX_COST}")
    return _Header(cost, salt, nonce, key_check)


@cache
def _process_salt() -> bytes:
    """Return one salt for all files that this process writes, so that the key is derived only once; nonces differ."""
    return os.urandom(SALT_BYTES)


@lru_cache(maxsize=8)
def _derive(key: str, salt: bytes, cost: Cost) -> tuple[bytes, bytes]:
    """Derive the AES key and the key check from the user's key."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    length = KEY_BYTES + CHECK_BYTES
    block = Scrypt(salt=salt, length=length, n=2**cost.log_n, r=cost.r, p=cost.p).derive(
        key.encode(errors="surrogateescape")
    )
    return block[:KEY_BYTES], block[KEY_BYTES:]
