"""The processes that work on one task together, and which of them this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from oneformer_spec.errors import SpecError


@dataclass(frozen=True)
class World:
    """The position of one process among all that work together, each on its own device.

    `rank` is its number among all `size` processes, `local_rank` its number among the `local_size` processes on this
    machine; both count from 0.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def share(self, count: int, unit: int = 1) -> range:
        """Return the indices, out of `count` items, that this process handles.

        Each process gets a contiguous range made of whole units of `unit` items. Together the ranges of all ranks cover
        `range(count)`; their lengths differ by at most one unit.

        >>> World(rank=1, size=2).share(10, unit=4)
        range(4, 10)
        """
        units = -(-count // unit)
        first, last = (units * rank // self.size * unit for rank in (self.rank, self.rank + 1))
        return range(first, min(last, count))


ALONE = World()


_NUMBERS = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")  # set by hand, by torchrun, by srun
_PROCESSES = ("LOCAL_WORLD_SIZE", "SLURM_STEP_TASKS_PER_NODE")  # of each machine: "4", and srun's "4(x2)"


def machine_rank(task: str, num_nodes: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of this machine, counted from 0, as set in the environment by hand, torchrun or srun.

    `task` is the section of the spec that has `num_nodes`; errors name it.

    Raises:
        SpecError: There are several machines, and the environment variable is missing or out of range.
    """
    if num_nodes == 1:
        return 0
    field = f"{task}.num_nodes"
    variable = next((name for name in _NUMBERS if name in environment), None)
    if variable is None:
        raise SpecError(
            f"{field}: {num_nodes}: set NODE_RANK to 0, 1, … on the machines, "
            "or start the command with torchrun or srun, one process per machine"
        )
    for name in _PROCESSES:
        if environment.get(name, "1").partition("(")[0] != "1":
            raise SpecError(
                f"{field}: {name} is {environment[name]}; start one process per machine, "
                f"which starts the processes for {task}.num_gpus itself"
            )
    number = environment[variable]
    if not number.isdecimal() or int(number) >= num_nodes:
        raise SpecError(f"{field}: {variable} is {number}, expected 0 to {num_nodes - 1} with {num_nodes} machines")
    return int(number)
