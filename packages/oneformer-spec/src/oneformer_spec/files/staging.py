"""Write a folder of results completely before it appears: build it beside its target and move it there at the end."""

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
    """Create a temporary folder beside `target`; at the end of the block its files are moved into `target`.

    If the block raises, the files are deleted instead. Files in subfolders are moved first, so that an index at the top
    never names a file that is not there yet.

    Args:
        target: The folder that receives the files; it may exist.
        names: The files and folders that will be at its top level.
        force: Whether they may replace existing ones.

    Raises:
        UsageError: One of the names exists in `target` and `force` is not set, or `target` is a file.
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
