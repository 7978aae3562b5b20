"""Keep the temporary files of encrypted models in memory, so that no plain copy reaches a disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oneformer_spec.errors import OneFormerError
from oneformer_spec.files.encryption import is_encrypted

MOUNTS = Path("/proc/mounts")
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
SHARED_MEMORY = Path("/dev/shm")
COPIES = 6  # of the model, that onnxruntime's quantizer has in temporary files at the same time


@contextmanager
def safe_temporary_folder(source: Path) -> Iterator[None]:
    """Make `tempfile` use a folder in memory inside the block if the model `source` is encrypted.

    onnxruntime's quantizer passes graphs between its steps in temporary files.

    Raises:
        OneFormerError: The model is encrypted, but no file system in memory has enough room.
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
    available = ", ".join(f"{folder} has {room / 1e6:.0f} MB free" for folder, room in free.items())
    raise OneFormerError(
        f"{source}: is encrypted, so its temporary files must be in memory; they need {needed / 1e6:.0f} MB, "
        f"{available or 'but no such folder was found'}; set TMPDIR to a folder on a larger tmpfs"
    )


def _is_in_memory(folder: Path) -> bool:
    """Whether a folder is on a file system in memory; False where that is unknown (outside Linux)."""
    if not MOUNTS.exists():
        return False
    path = folder.resolve()
    rows = (line.split() for line in MOUNTS.read_text().splitlines())
    mounts = {Path(where.replace("\\040", " ")): kind for _, where, kind, *_ in rows}  # the last mount on a path wins
    kind = next((mounts[parent] for parent in (path, *path.parents) if parent in mounts), "")
    return kind in MEMORY_FILE_SYSTEMS
