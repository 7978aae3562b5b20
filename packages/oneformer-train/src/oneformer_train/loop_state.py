"""Lightning's count of epochs and batches, as a checkpoint holds it.

Lightning writes its counters as they are in the middle of a hook and guesses from them, when it resumes, which hook
that was. It takes a stop after an epoch's last batch for the end of the epoch, and passes over the validation that was
due. Here the counters are brought into the state between two steps of the loop, which leaves nothing to guess.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


def validation_due(trainer: pl.Trainer, batch_index: int) -> bool:
    """Tell whether Lightning validates after this batch of the epoch."""
    every, after = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if not trainer.enable_validation or not after:
        return False
    if every is not None and (trainer.current_epoch + 1) % every:
        return False
    done = batch_index + 1 if every is not None else trainer.fit_loop.epoch_loop.total_batch_idx + 1
    return done % after == 0


def between_batches(loops: dict[str, Any], *, due: bool, validated: bool) -> None:
    """Bring the counters into the state after a batch.

    Args:
        loops: The part of a checkpoint, changed in place.
        due: A validation belongs to this batch.
        validated: It is done; otherwise the run begins with it, from its first picture.
    """
    fit = loops["fit_loop"]
    batches = fit["epoch_loop.batch_progress"]
    for count in (batches["total"], batches["current"]):
        count["completed"] = count["processed"]
    if due and not validated:
        begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        fit["epoch_loop.val_loop.batch_progress"] |= {"total": begun, "current": dict(begun), "is_last_batch": False}
    if not due:  # otherwise Lightning counts the step when it has dealt with the validation
        fit["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def between_epochs(loops: dict[str, Any]) -> None:
    """Bring the counters into the state after an epoch; the loop is to be told that it does not restart."""
    epochs = loops["fit_loop"]["epoch_progress"]
    for count in (epochs["total"], epochs["current"]):
        count["completed"] = count["processed"]
