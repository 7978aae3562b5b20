"""Which machine this is of several that run one command, which is started once on each of them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from oneformer_spec.errors import SpecError

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
