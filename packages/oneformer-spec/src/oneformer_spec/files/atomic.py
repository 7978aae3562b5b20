"""Write files atomically: a file is either complete or stays as it was before."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from oneformer_spec.errors import OneFormerError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp", re.DOTALL)

FileContent = bytes | str | Callable[[BinaryIO], object]
"""What to write: bytes, text (written as UTF-8), or a function that writes to an open binary file."""


def write_atomically(path: str | Path, content: FileContent, *, permissions_of: Path | None = None) -> None:
    """Write a file under a temporary name beside `path`, fsync it, then rename it to `path`.

    On any failure the temporary file is removed and `path` stays untouched. Missing parent folders are created. A
    device or pipe, such as /dev/null, is written to directly. With `permissions_of`, the new file gets the mode of that
    file and, if the user may set it, its owner; otherwise it gets those of any new file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_file() and not target.is_dir():
        with open(target, "wb") as file:
            _write(file, content)
        return
    temporary = target.parent / f".{target.name[:40]}.{secrets.token_hex(6)}.tmp"
    try:
        with open(temporary, "xb") as file:
            with suppress(OSError):  # the file system has no locks
                _lock(file)
            if permissions_of is not None:
                _copy_permissions(permissions_of, file)
            _write(file, content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def write_output(target: str | Path, content: FileContent) -> None:
    """Write a file named on the command line, atomically.

    Raises:
        OneFormerError: The file cannot be written.
    """
    try:
        write_atomically(target, content)
    except OSError as error:
        raise OneFormerError(f"{target}: cannot be written: {error.strerror or error}") from error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that killed processes left in a folder; files that are still being written stay."""
    paths = [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)] if folder.is_dir() else []
    for path in paths:
        with suppress(OSError), open(path, "r+b") as file:  # OSError: locked, just renamed, or not ours to delete
            _lock(file)
            path.unlink()


def _lock(file: BinaryIO) -> None:
    """Mark a file as being written until it is closed or its process ends; OSError if another process has marked it."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _copy_permissions(source: Path, file: BinaryIO) -> None:
    """Copy owner and mode to an open file; the owner first, because changing it may clear parts of the mode."""
    status = source.stat()
    with suppress(OSError):  # only root may give files away
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
    os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))


def _write(file: BinaryIO, content: FileContent) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, if the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
