"""The tasks that are installed: the built-in ones first, then those of plugins by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from oneformer_spec.errors import UsageError
from oneformer_spec.hooks import Task
from oneformer_spec.plugins.builtins import oneformer_tasks
from oneformer_spec.plugins.registry import declarations

ALL = "all"
"""What `evaluate.task` and `inference.mode` may be beside the name of a task."""

_BUILT_IN: Mapping[str, Task] = {task.name: task for task in oneformer_tasks()}


@cache
def declared_tasks() -> Mapping[str, Task]:
    """Return every installed task by name; the names of the built-in ones are members of `oneformer_spec.Task`."""
    return declarations("task")


def declared_task(name: str) -> Task:
    """Return a task by its name; asking for a built-in one loads no plugin.

    Raises:
        UsageError: No such task is installed.
    """
    task = _BUILT_IN.get(name) or declared_tasks().get(name)
    if task is None:
        raise UsageError(f"no task {name!r} is installed; available: {', '.join(declared_tasks())}")
    return task


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Return the installed tasks among some names, in the order of `declared_tasks`."""
    return tuple(name for name in declared_tasks() if name in names)


def with_plugin_tasks(names: Collection[str]) -> tuple[str, ...]:
    """Return the tasks that data has targets for, from those its format names: others follow from their `needs`."""
    return tuple(name for name, task in declared_tasks().items() if name in names or set(task.needs) & set(names))
