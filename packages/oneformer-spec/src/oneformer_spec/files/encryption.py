"""Encrypted model files: AES-256-GCM under a key that scrypt derives from the user's.

A file is a header, the ciphertext, and GCM's tag (NIST SP 800-38D) over both. The header holds the format's number, the
cost of scrypt (RFC 7914), its salt, the nonce, a proof of the key, and a checksum; so a wrong key, a damaged header and
a damaged content are three different things. The proof is a block of scrypt's output beside the one that encrypts:
trying keys against it costs what trying them against the tag costs.
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
from oneformer_spec.files.atomic import Content

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext

KEY_VARIABLE = "ONEFORMER_ENCRYPTION_KEY"

MAGIC = b"\x89OneFmr\n"
FORMAT = 1
SALT_BYTES, NONCE_BYTES, KEY_BYTES, PROOF_BYTES, TAG_BYTES = 16, 12, 32, 16, 16
_FIELDS = struct.Struct(f"<8s4B{SALT_BYTES}s{NONCE_BYTES}s{PROOF_BYTES}s")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CHECKSUM.size
_PIECE = 2**20  # bytes that are read and decrypted at a time


class Cost(NamedTuple):
    """What scrypt takes: 128 · 2^log_n · r bytes of memory, and time with their product and p."""

    log_n: int
    r: int
    p: int


COST = Cost(log_n=17, r=8, p=1)
"""128 MiB and a third of a second: what OWASP's password storage cheat sheet asks for."""
MOST = Cost(log_n=18, r=8, p=4)
"""What a file may ask for: 256 MiB and a few seconds."""


class _Header(NamedTuple):
    cost: Cost
    salt: bytes
    nonce: bytes
    proof: bytes

    def packed(self) -> bytes:
        fields = _FIELDS.pack(MAGIC, FORMAT, *self.cost, self.salt, self.nonce, self.proof)
        return fields + _CHECKSUM.pack(zlib.crc32(fields))


def key_of_environment() -> str | None:
    """Return what ONEFORMER_ENCRYPTION_KEY holds, None where it is not set or empty."""
    return os.environ.get(KEY_VARIABLE) or None


def check_installed() -> None:
    """Raise UsageError where the package that encrypts is missing."""
    if find_spec("cryptography") is None:
        raise UsageError(
            "encryption_key: encrypted model files need cryptography; "
            "get it with: python -m pip install 'oneformer-spec[encryption]'"
        )


def encrypted(content: Content, key: str | None) -> Content:
    """Return what writes `content` encrypted, for `write_atomically`; without a key, `content` itself."""
    if key is None:
        return content
    secret = key

    def write(file: BinaryIO) -> None:
        sealed = _Sealing(file, secret)
        if callable(content):
            content(sealed)  # type: ignore[arg-type]  # it is written to, and nothing else
        else:
            sealed.write(content.encode() if isinstance(content, str) else content)
        sealed.finish()

    return write


@contextmanager
def opened(path: str | Path, key: str | None = None) -> Iterator[BinaryIO]:
    """Open a file for reading; an encrypted one is decrypted into memory, and checked before it is handed out.

    Without a key, ONEFORMER_ENCRYPTION_KEY is taken.

    Raises:
        OSError: It cannot be opened.
        EncryptionKeyError: It is encrypted, and the key is missing or not the one.
        CheckpointError: It is encrypted and damaged.
        UsageError: It is encrypted, and the package that decrypts is missing.
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
    """Tell whether a file is one that `encrypted` wrote; False where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class _Sealing:
    """A file that encrypts what is written to it."""

    def __init__(self, file: BinaryIO, key: str) -> None:
        check_installed()
        salt = _own_salt()
        secret, proof = _derived(key, salt, COST)
        header = _Header(COST, salt, os.urandom(NONCE_BYTES), proof)
        self._file = file
        self._encryptor = _encryptor(secret, header)
        file.write(header.packed())

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PIECE):
            self._file.write(self._encryptor.update(view[start : start + _PIECE]))
        return len(view)

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        """Write what remains and the tag that seals the whole."""
        self._file.write(self._encryptor.finalize() + self._encryptor.tag)


def _encryptor(secret: bytes, header: _Header) -> AEADEncryptionContext:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(secret), modes.GCM(header.nonce)).encryptor()
    encryptor.authenticate_additional_data(header.packed())
    return encryptor


def _decrypted(file: BinaryIO, path: str | Path, key: str | None) -> io.BytesIO:
    header = _read_header(file, path)
    key = key or key_of_environment()
    if key is None:
        raise EncryptionKeyError(f"{path}: is encrypted; set encryption_key or {KEY_VARIABLE}")
    check_installed()
    secret, proof = _derived(key, header.salt, header.cost)
    if not hmac.compare_digest(proof, header.proof):
        raise EncryptionKeyError(f"{path}: was encrypted with another encryption_key")

    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    decryptor = Cipher(algorithms.AES(secret), modes.GCM(header.nonce)).decryptor()
    decryptor.authenticate_additional_data(header.packed())
    left = os.fstat(file.fileno()).st_size - HEADER_BYTES - TAG_BYTES
    if left < 0:
        raise CheckpointError(f"{path}: is damaged: it ends before its seal")
    plain = io.BytesIO()
    while left > 0 and (piece := file.read(min(_PIECE, left))):
        left -= len(piece)
        plain.write(decryptor.update(piece))
    try:
        plain.write(decryptor.finalize_with_tag(file.read(TAG_BYTES)))
    except (InvalidTag, ValueError):
        raise CheckpointError(f"{path}: is damaged: its content does not match its seal") from None
    plain.seek(0)
    return plain


def _read_header(file: BinaryIO, path: str | Path) -> _Header:
    data = file.read(HEADER_BYTES)
    if len(data) < HEADER_BYTES:
        raise CheckpointError(f"{path}: is damaged: an encrypted file that ends within its header")
    _, version, log_n, r, p, salt, nonce, proof = _FIELDS.unpack_from(data)
    if zlib.crc32(data[: _FIELDS.size]) != _CHECKSUM.unpack_from(data, _FIELDS.size)[0]:
        raise CheckpointError(f"{path}: is damaged: the header of its encryption does not match its checksum")
    if version != FORMAT:
        raise CheckpointError(f"{path}: is encrypted in format {version}; this version reads format {FORMAT}")
    cost = Cost(log_n, r, p)
    if min(cost) < 1 or any(asked > most for asked, most in zip(cost, MOST, strict=True)):
        raise CheckpointError(f"{path}: asks for {cost} of scrypt, at most {MOST} is granted: it is not read")
    return _Header(cost, salt, nonce, proof)


@cache
def _own_salt() -> bytes:
    """Return the salt of all files that this process writes, so that it derives its key once; nonces differ."""
    return os.urandom(SALT_BYTES)


@lru_cache(maxsize=8)
def _derived(key: str, salt: bytes, cost: Cost) -> tuple[bytes, bytes]:
    """Return the key that encrypts, and the proof of it."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    length = KEY_BYTES + PROOF_BYTES
    block = Scrypt(salt=salt, length=length, n=2**cost.log_n, r=cost.r, p=cost.p).derive(
        key.encode(errors="surrogateescape")
    )
    return block[:KEY_BYTES], block[KEY_BYTES:]
