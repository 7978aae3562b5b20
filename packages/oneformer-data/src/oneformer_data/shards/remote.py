"""Files of a web server, kept in a folder of limited size under the digest that proves them."""

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
_WAITS = (1, 5)  # seconds before another attempt
_ABANDONED = 3600  # seconds since a download that is not finished last grew


def read(url: str) -> bytes:
    """Return the content of a URL.

    Raises:
        DataError: It cannot be had, or is too large.
    """
    data = b""

    def take(blocks: Iterator[bytes]) -> None:
        nonlocal data
        data = b"".join(blocks)

    _fetch(url, _LARGEST_INDEX, take)
    return data


def opened(url: str, shard: Shard) -> BufferedReader:
    """Open a shard, which is fetched where it is not kept yet; the caller closes it.

    Threads and processes that want the same shard fetch it once.

    Raises:
        DataError: It cannot be had, or is not what the index says.
    """
    folder = cache_folder() / "shards"
    path = folder / f"{shard.sha256}.tar"
    try:
        if (file := _kept(path, shard.size)) is not None:
            return file
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{path.name[:2]}.lock"):
            if (file := _kept(path, shard.size)) is None:
                _make_room(folder, shard.size)
                write_atomically(path, partial(_download, url, shard))
                file = open(path, "rb")  # noqa: SIM115
            return file
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}, while fetching {url}") from None


def limit() -> int:
    """Return how many bytes of fetched files are kept.

    Raises:
        UsageError: The environment variable that says it is no number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(_DEFAULT_LIMIT)
    with suppress(ValueError, OverflowError):
        if (size := int(float(text) * 1e9)) > 0:
            return size
    raise UsageError(f"{LIMIT_VARIABLE}: {text!r} is no number of gigabytes above 0")


def check_room(shards: Sequence[Shard], at_once: int) -> None:
    """Say that too little is kept, where that is so: shards that are needed at once would be fetched again and again.

    Raises:
        UsageError: The limit is no number.
    """
    needed = sum(sorted(shard.size for shard in shards)[-at_once:])
    if needed > limit():
        note(
            f"training needs up to {needed / 1e9:.2f} GB of shards at once and {limit() / 1e9:.2f} GB are kept: they "
            f"will be fetched again and again; raise {LIMIT_VARIABLE}, or write smaller ones"
        )


def _kept(path: Path, size: int) -> BufferedReader | None:
    """Open a kept file and note the time of its use; a deleted file stays readable for those that have it open."""
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
    """Hold a lock that ends with the process, however that ends."""
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_room(folder: Path, size: int) -> None:
    """Delete the files that were used longest ago until another one fits."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total = sum(length for _, length, _ in found)
    for used, length, path in sorted(found):
        if total + size <= limit():
            return
        if path.suffix == ".tar" or (path.suffix == ".tmp" and time.time() - used > _ABANDONED):
            path.unlink(missing_ok=True)
            total -= length


def _download(url: str, shard: Shard, target: BinaryIO) -> None:
    """Write a shard into a file, and prove it."""

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
    """Give the content of a URL to `take`, from its beginning again when the connection fails; three attempts in all.

    Raises:
        DataError: The server has no such file, does not answer, or sends more than `largest` bytes.
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
            raise DataError(f"{url}: cannot be fetched: {problem}")
        time.sleep(wait)


def _blocks(answer: HTTPResponse, url: str, largest: int) -> Iterator[bytes]:
    total = 0
    while block := answer.read(_BLOCK):
        total += len(block)
        if total > largest:
            raise DataError(f"{url}: has more than {largest} bytes")
        yield block
    if answer.length:  # a connection that ends early is no error of `read`
        raise IncompleteRead(b"", answer.length)
