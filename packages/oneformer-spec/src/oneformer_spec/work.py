"""The work of a task, done here or shared out among processes, each with a device of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from oneformer_spec.machines import machine_rank
from oneformer_spec.plugins import resolve
from oneformer_spec.schema import EvaluateSection, InferenceSection, Spec
from oneformer_spec.world import World

Report = Callable[[int, int], None]
"""Is told how many items are done, of how many."""


class Work(Protocol):
    """A share of a task's items: open, so that only they can still go wrong, and not begun."""

    @property
    def total(self) -> int:
        """The number of the items."""

    def run(self, report: Report) -> Any:
        """Do it all; what is returned can be sent between processes."""


@dataclass(frozen=True)
class InThisProcess:
    """All of a task's items as the only share."""

    work: Work

    @property
    def total(self) -> int:
        """The number of the items."""
        return self.work.total

    def run(self, report: Report) -> list[Any]:
        """Do it all and return the one result in a list, as several processes do."""
        return [self.work.run(report)]


@contextmanager
def opened(target: str, spec: Spec, task: str, *arguments: object) -> Iterator[Work]:
    """Open the work of a task on all its devices of this machine; `run` returns the shares' results in items' order.

    Args:
        target: "module:function"; called in every process as `function(spec, world, *arguments)`, it returns the Work
            of that process.
        spec: The whole spec; its section `task` says how many processes and machines there are.
        task: "evaluate" or "inference".
        arguments: Whatever else the processes need to know.

    Raises:
        OneFormerError: One of the processes could not open its share: its error, and no share has begun.
    """
    section: EvaluateSection | InferenceSection = getattr(spec, task)
    count, first = section.num_gpus, machine_rank(task, section.num_nodes) * section.num_gpus
    worlds = [World(first + local, local, count * section.num_nodes, count) for local in range(count)]
    if count == 1:
        yield InThisProcess(resolve(target)(spec, worlds[0], *arguments))
        return
    from oneformer_spec.workers import Job, started

    with started(Job(target, spec, arguments), worlds) as work:
        yield work
