"""Where a run starts: from nothing, or from the newest checkpoint that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oneformer_model import checkpoint as files
from oneformer_spec.entry import note
from oneformer_spec.errors import CheckpointError

LATEST = "oneformer_model_latest.pth"


@dataclass(frozen=True)
class Start:
    """The checkpoint a run continues from and how far that run had come."""

    path: Path
    batches_done: int
    epochs_done: int


def find_start(folder: Path, chosen: str | None) -> Start | None:
    """Return the checkpoint to continue from, or None for a fresh run.

    `chosen` (`train.resume_training_checkpoint_path`) wins; else the newest readable checkpoint of the run's folder.

    Raises:
        CheckpointError: The chosen one cannot be read, or none of the folder's can.
    """
    if chosen:
        return _start(Path(chosen))
    candidates = [folder / LATEST, *sorted(folder.glob("model_epoch_*.pth"), reverse=True)]
    existing = [path for path in candidates if path.is_file()]
    for path in existing:
        try:
            return _start(path)
        except CheckpointError as error:
            note(f"{error}; trying the checkpoint before it")
    if existing:
        raise CheckpointError(f"{folder}: none of its {len(existing)} checkpoints can be read; use another results_dir")
    return None


def _start(path: Path) -> Start:
    training = files.read(path).get("training")
    if training is None:
        raise CheckpointError(
            f"{path}: holds weights but no state of training; start from them with train.pretrained_model_path"
        )
    return Start(path, int(training["batches_done"]), int(training["epochs_done"]))
