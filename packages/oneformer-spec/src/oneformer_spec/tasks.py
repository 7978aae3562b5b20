"""The three built-in tasks and the text that switches the one set of weights between them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONTEXT_LENGTH = 77


class Task(StrEnum):
    """What the model is asked for, of the built-in tasks; the value is the word in the prompt.

    A task of a plugin is named by a plain text wherever a built-in one is named by a member.
    """

    SEMANTIC = "semantic"
    INSTANCE = "instance"
    PANOPTIC = "panoptic"


TASKS: tuple[Task, ...] = tuple(Task)

# CLIP byte-pair ids of "The task is {task}". The published weights were trained with zeros after the end token, so the
# rest of a row is 0 and not the end token.
_PROMPT_IDS: dict[Task, tuple[int, ...]] = {
    Task.SEMANTIC: (49406, 518, 10549, 533, 29119, 1550, 49407),
    Task.INSTANCE: (49406, 518, 10549, 533, 34572, 49407),
    Task.PANOPTIC: (49406, 518, 10549, 533, 1072, 24755, 49407),
}


def task_prompt(task: Task) -> str:
    """Return the sentence whose tokens condition the queries (OneFormer, section 3.1)."""
    return f"The task is {task.value}"


def task_row(task: Task, length: int = CONTEXT_LENGTH) -> list[int]:
    """Return the token ids of a built-in task's prompt, padded with 0 to `length`.

    Raises:
        ValueError: The prompt is longer than `length`.
    """
    ids = _PROMPT_IDS[task]
    if length < len(ids):
        raise ValueError(f"a row of {length} tokens is too short for {task_prompt(task)!r}, which has {len(ids)}")
    return [*ids, *[0] * (length - len(ids))]


def task_tokens(task: Task, batch_size: int = 1, length: int = CONTEXT_LENGTH) -> NDArray[np.float32]:
    """Return the task's tokens as the network eats them: raw ids as float32, (B, length)."""
    import numpy as np

    return np.tile(np.asarray(task_row(task, length), dtype=np.float32), (batch_size, 1))
