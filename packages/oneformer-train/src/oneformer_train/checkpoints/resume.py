"""Where a run starts: from nothing, or from the newest checkpoint that can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneformer_model.weights import checkpoint as files
from oneformer_spec.commands.exit import note
from oneformer_spec.errors import CheckpointError, EncryptionKeyError

LATEST = "oneformer_model_latest.pth"
PERIODIC = "model_epoch_*.pth"


@dataclass(frozen=True)
class Start:
    """The checkpoint a run continues from, how far that run had come, and which files it kept."""

    path: Path
    batches_done: int
    epochs_done: int
    kept: Mapping[str, Any]


def find_start(folder: Path, chosen: str | None, *, best: Sequence[Path] = (), key: str | None = None) -> Start | None:
    """Return the checkpoint to continue from, or None for a fresh run.

    `chosen` (`train.resume_training_checkpoint_path`) wins; else the latest of the run's folder, and where that cannot
    be read the newest of its periodic checkpoints and of `best`. `key` opens encrypted ones.

    Raises:
        EncryptionKeyError: One is encrypted, and the key is missing or another.
        CheckpointError: The chosen one cannot be read, or none of the folder's can.
    """
    if chosen:
        return _start(Path(chosen), key)
    own = [path for path in (folder / LATEST, *folder.glob(PERIODIC)) if path.is_file()]
    if not own:
        return None
    others = sorted({*own, *best} - {folder / LATEST}, key=lambda path: (path.stat().st_mtime_ns, path.name))
    candidates = [path for path in own if path.name == LATEST] + others[::-1]
    for path in candidates:
        try:
            return _start(path, key)
        except EncryptionKeyError:
            raise  # an older checkpoint is no way out
        except CheckpointError as error:
            note(f"{error}; trying the checkpoint before it")
    raise CheckpointError(f"{folder}: none of its {len(candidates)} checkpoints can be read; use another results_dir")


def _start(path: Path, key: str | None) -> Start:
    training = files.read(path, key).get("training")
    if training is None:
        raise CheckpointError(
            f"{path}: holds weights but no state of training; start from them with train.pretrained_model_path"
        )
    try:
        return Start(path, int(training["batches_done"]), int(training["epochs_done"]), dict(training["kept"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: its state of training was written by another version") from None
