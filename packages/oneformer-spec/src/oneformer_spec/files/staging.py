"""A folder of results that appears as a whole: written beside its target and moved there at the end."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from oneformer_spec.errors import DataError, UsageError


@contextmanager
def staged(target: Path, names: Sequence[str], *, force: bool) -> Iterator[Path]:
    """Give a new folder beside `target`; its files move into `target` when the block ends well, else they vanish.

    `names` are the files and folders that will be at its top. Files in subfolders move first, so that an index at the
    top never names a file that is not there.

    Raises:
        UsageError: One of the names is in `target` already and `force` is not set.
        DataError: The folder cannot be written.
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target}: is a file; name a folder")
    for name in names:
        if (target / name).exists() and not force:
            raise UsageError(f"{target / name}: exists; replace it with --force, or name another folder")
    folder = target.parent / f".{target.name[:40]}.{secrets.token_hex(6)}.tmp"
    try:
        folder.mkdir(parents=True)
        yield folder
        _move(folder, target)
    except OSError as error:
        raise DataError(f"{error.filename or target}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, target: Path) -> None:
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for name in sorted(files, key=lambda name: len(name.parts) == 1):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name, target / name)
