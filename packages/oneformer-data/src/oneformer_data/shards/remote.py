"""Download files from a web server into a cache of limited size, verified and named by their SHA-256 digest."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException, HTTPResponse, IncompleteRead
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from oneformer_data.opening.record_cache import cache_folder
from oneformer_data.shards.index import Shard
from oneformer_spec.commands.exit import note
from oneformer_spec.errors import DataError, UsageError
from oneformer_spec.files.atomic import write_atomically

LIMIT_VARIABLE = "ONEFORMER_CACHE_GB"
_DEFAULT_LIMIT = 100  # GB
_LARGEST_INDEX = 1 << 30  # bytes
_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without a byte
_WAITS = (1, 5)  # seconds before the second and third attempt
_ABANDONED = 3600  # seconds without growth after which an unfinished download counts as abandoned


def read(url: str) -> bytes:
    """Return the content of a URL.

    Raises:
        DataError: The download fails, or is too large.
    """
    data = b""

    def take(blocks: Iterator[bytes]) -> None:
        nonlocal data
        data = b"".join(blocks)

    _fetch(url, _LARGEST_INDEX, take)
    return data


def open_shard(url: str, shard: Shard) -> BufferedReader:
    """Open a shard from the cache, downloading it first if necessary; the caller closes the file.

    Threads and processes that need the same shard download it once.

    Raises:
        DataError: The download fails, or the shard is not what the index says.
    """
    folder = cache_folder() / "shards"
    path = folder / f"{shard.sha256}.tar"
    try:
        if (file := _open_cached(path, shard.size)) is not None:
            return file
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{path.name[:2]}.lock"):
            if (file := _open_cached(path, shard.size)) is None:
                _make_room(folder, shard.size)
                write_atomically(path, partial(_download, url, shard))
                file = open(path, "rb")  # noqa: SIM115
            return file
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}, while downloading {url}") from None


def limit() -> int:
    """Return the size limit of the cache in bytes.

    Raises:
        UsageError: The environment variable that sets it is not a number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(_DEFAULT_LIMIT)
    with suppress(ValueError, OverflowError):
        if (size := int(float(text) * 1e9)) > 0:
            return size
    raise UsageError(f"{LIMIT_VARIABLE}: {text!r} is not a number of gigabytes above 0")


def check_room(shards: Sequence[Shard], at_once: int) -> None:
    """Print a note if the cache cannot hold the `at_once` largest shards, which would be downloaded again and again.

    Raises:
        UsageError: The limit is not a number.
    """
    needed = sum(sorted(shard.size for shard in shards)[-at_once:])
    if needed > limit():
        note(
            f"training needs up to {needed / 1e9:.2f} GB of shards at once but the cache holds {limit() / 1e9:.2f} GB: "
            f"shards will be downloaded again and again; raise {LIMIT_VARIABLE}, or write smaller shards"
        )


def _open_cached(path: Path, size: int) -> BufferedReader | None:
    """Open a cached file and update its time of last use; if it is deleted later, the open file stays readable."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return None
    if os.fstat(file.fileno()).st_size != size:
        file.close()
        return None
    with suppress(OSError):
        os.utime(path)
    return file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock, which the system releases even if the process is killed."""
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_room(folder: Path, size: int) -> None:
    """Delete the least recently used files until `size` more bytes fit into the cache."""
    files = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    total = sum(length for _, length, _ in files)
    for used, length, path in sorted(files):
        if total + size <= limit():
            return
        if path.suffix == ".tar" or (path.suffix == ".tmp" and time.time() - used > _ABANDONED):
            path.unlink(missing_ok=True)
            total -= length


def _download(url: str, shard: Shard, target: BinaryIO) -> None:
    """Download a shard into a file, and verify its size and digest."""

    def write(blocks: Iterator[bytes]) -> None:
        digest, size = hashlib.sha256(), 0
        target.seek(0)
        target.truncate()
        for block in blocks:
            digest.update(block)
            size += target.write(block)
        if size != shard.size:
            raise DataError(f"{url}: has {size} bytes, its index says {shard.size}")
        if digest.hexdigest() != shard.sha256:
            raise DataError(f"{url}: has the SHA-256 digest {digest.hexdigest()}, its index says {shard.sha256}")

    _fetch(url, shard.size, write)


def _fetch(url: str, largest: int, take: Callable[[Iterator[bytes]], None]) -> None:
    """Pass the content of a URL to `take`; if the connection fails, start over, with three attempts in all.

    Raises:
        DataError: The server does not have the file, does not answer, or sends more than `largest` bytes.
    """
    for wait in (*_WAITS, None):
        try:
            with urlopen(Request(url, headers={"User-Agent": "oneformer"}), timeout=_TIMEOUT) as answer:
                take(_blocks(answer, url, largest))
            return
        except HTTPError as error:
            problem = f"{error.code} {error.reason}"
            if error.code < 500:
                wait = None
        except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
            problem = str(getattr(error, "reason", "") or error) or type(error).__name__
        if wait is None:
            raise DataError(f"{url}: cannot be downloaded: {problem}")
        time.sleep(wait)


def _blocks(answer: HTTPResponse, url: str, largest: int) -> Iterator[bytes]:
    total = 0
    while block := answer.read(_BLOCK):
        total += len(block)
        if total > largest:
            raise DataError(f"{url}: has more than {largest} bytes")
        yield block
    if answer.length:  # `read` does not raise if the connection ends early
        raise IncompleteRead(b"", answer.length)
