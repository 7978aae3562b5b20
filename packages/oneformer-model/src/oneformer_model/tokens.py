"""The token that tells the network its task, as a tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from oneformer_spec import tasks
from oneformer_spec.tasks import Task


def task_tokens(task: Task | str, batch_size: int = 1) -> Tensor:
    """Return the task's raw token ids, float32 (batch_size, 77)."""
    return torch.from_numpy(tasks.task_tokens(Task(task), batch_size))
