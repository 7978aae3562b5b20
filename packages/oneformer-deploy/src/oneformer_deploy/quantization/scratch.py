"""Where temporary files lie while a model is worked on: in memory where the model is encrypted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oneformer_spec.errors import OneFormerError
from oneformer_spec.files.encryption import is_encrypted

MOUNTS = Path("/proc/mounts")
KINDS = ("tmpfs", "ramfs")  # file systems that lie in memory
SHARED_MEMORY = Path("/dev/shm")
COPIES = 6  # of a model, that onnxruntime's quantizer keeps at a time


@contextmanager
def temporary_files(source: Path) -> Iterator[None]:
    """Let `tempfile` use a folder in memory as long as an encrypted model is worked on, its usual one for a plain one.

    onnxruntime's quantizer hands graphs from step to step in temporary files.

    Raises:
        OneFormerError: The model is encrypted, and no folder in memory has room for it.
    """
    if not is_encrypted(source):
        yield
        return
    before = tempfile.tempdir
    tempfile.tempdir = str(_folder_in_memory(source))
    try:
        yield
    finally:
        tempfile.tempdir = before


def _folder_in_memory(source: Path) -> Path:
    needed = COPIES * source.stat().st_size
    free = {
        folder: shutil.disk_usage(folder).free
        for folder in (Path(tempfile.gettempdir()), SHARED_MEMORY)
        if folder.is_dir() and _is_in_memory(folder)
    }
    for folder, room in free.items():
        if room >= needed:
            return folder
    found = ", ".join(f"{folder} has {room / 1e6:.0f}" for folder, room in free.items())
    raise OneFormerError(
        f"{source}: is encrypted, so temporary files must lie in memory: they take {needed / 1e6:.0f} MB, "
        f"{found or 'and there is no such folder'}; set TMPDIR to a folder on a larger tmpfs"
    )


def _is_in_memory(folder: Path) -> bool:
    """Tell whether a folder's file system lies in memory; only Linux says so."""
    if not MOUNTS.exists():
        return False
    place = folder.resolve()
    rows = (line.split() for line in MOUNTS.read_text().splitlines())
    mounts = {Path(where.replace("\\040", " ")): kind for _, where, kind, *_ in rows}  # of two on one place, the upper
    return next((mounts[parent] for parent in (place, *place.parents) if parent in mounts), "") in KINDS
