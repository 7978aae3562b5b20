"""The texts that the contrastive loss pairs with the queries (OneFormer, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from oneformer_spec.tasks import Task

FILLERS = {
    Task.SEMANTIC: "a semantic photo",
    Task.INSTANCE: "an instance photo",
    Task.PANOPTIC: "a panoptic photo",
}


def texts(task: Task, class_names: Sequence[str], num_texts: int) -> list[str]:
    """Return `num_texts` texts: one per target, then the task's filler; targets beyond the number have none."""
    named = [f"a photo with a {name}" for name in class_names[:num_texts]]
    return [*named, *[FILLERS[task]] * (num_texts - len(named))]
