"""Files that are either wholly there or as they were before."""

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

Content = bytes | str | Callable[[BinaryIO], object]


def write_atomically(path: str | Path, content: Content, *, permissions_of: Path | None = None) -> None:
    """Write a file under a temporary name beside it, fsync, then rename it over `path`.

    `content` is bytes, text (UTF-8) or a function that writes to an open binary file. On any failure the temporary file
    is removed and `path` stays untouched. Missing parent folders are made. A device or a pipe, such as /dev/null, is
    written to as it is. With `permissions_of` the new file has the mode of that file and, where the user may set it,
    its owner; otherwise those of any new file.
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
            with suppress(OSError):  # a file system without locks
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


def write_output(target: str | Path, content: Content) -> None:
    """Write a file that the command line names, wholly or not at all.

    Raises:
        OneFormerError: It cannot be written.
    """
    try:
        write_atomically(target, content)
    except OSError as error:
        raise OneFormerError(f"{target}: cannot be written: {error.strerror or error}") from error


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of writers that were killed; those that somebody is writing stay."""
    found = [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)] if folder.is_dir() else []
    for path in found:
        with suppress(OSError), open(path, "r+b") as file:  # locked, just renamed, or not ours to delete
            _lock(file)
            path.unlink()


def _lock(file: BinaryIO) -> None:
    """Mark a file as being written until it is closed or its process is gone; OSError where another marks it."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _copy_permissions(source: Path, file: BinaryIO) -> None:
    """Give an open file the owner and the mode of another; the owner first, since a change of it may clear the mode."""
    status = source.stat()
    with suppress(OSError):  # only root may give files away
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
    os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))


def _write(file: BinaryIO, content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; a file system that cannot do that changes nothing else."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
