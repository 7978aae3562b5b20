"""Which processes do one thing together, and which of them this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from oneformer_spec.errors import SpecError


@dataclass(frozen=True)
class World:
    """One process among those that work together, each with a device of its own.

    `rank` counts over all machines, `local_rank` on this one; `size` and `local_size` are their numbers.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Tell whether this is the process that prints and writes."""
        return self.rank == 0

    def share(self, count: int, unit: int = 1) -> range:
        """Return the part of `count` items that falls to this process: contiguous, in whole units of so many items.

        The parts of all ranks, one after the other, are `range(count)`; they differ by one unit at most.
        """
        units = -(-count // unit)
        first, last = (units * rank // self.size * unit for rank in (self.rank, self.rank + 1))
        return range(first, min(last, count))


ALONE = World()


_NUMBERS = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")  # set by hand, by torchrun, by srun
_PROCESSES = ("LOCAL_WORLD_SIZE", "SLURM_STEP_TASKS_PER_NODE")  # of each machine: "4", and srun's "4(x2)"


def machine_rank(task: str, num_nodes: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of this machine, counted from 0; `task` is the section of the spec that names `num_nodes`.

    Raises:
        SpecError: There are several and the environment does not say which this is, or says it wrongly.
    """
    if num_nodes == 1:
        return 0
    field = f"{task}.num_nodes"
    variable = next((name for name in _NUMBERS if name in environment), None)
    if variable is None:
        raise SpecError(
            f"{field}: {num_nodes}: set NODE_RANK to 0, 1, … on the machines, "
            "or start the command with torchrun or srun, one process on each"
        )
    for name in _PROCESSES:
        if environment.get(name, "1").partition("(")[0] != "1":
            raise SpecError(
                f"{field}: {name} is {environment[name]}; start one process on each machine, "
                f"it starts those of {task}.num_gpus itself"
            )
    number = environment[variable]
    if not number.isdecimal() or int(number) >= num_nodes:
        raise SpecError(f"{field}: {variable} is {number}, of {num_nodes} machines counted from 0")
    return int(number)
