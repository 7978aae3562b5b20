"""Which processes train together, and which of them this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from lightning_fabric.plugins.environments import SLURMEnvironment

from oneformer_spec.errors import SpecError
from oneformer_spec.processes.world import World
from oneformer_spec.schema import TrainSection

# torchrun's names, which every way of starting is translated into.
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_MEETING = ("MASTER_ADDR", "MASTER_PORT")


def joined_world(train: TrainSection, environment: Mapping[str, str] = os.environ) -> World | None:
    """Return this process's place in the world that torchrun, srun or our own launcher made, or None outside of one.

    Raises:
        SpecError: The spec asks for another number of processes than were started.
    """
    if all(name in environment for name in _PLACE):
        starter, names = "torchrun", _PLACE
    elif int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        starter, names = "srun", ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS")
    else:
        return None
    rank, local_rank, size = (int(environment[name]) for name in names)
    if size != train.num_gpus * train.num_nodes:
        raise SpecError(
            f"train.num_gpus, train.num_nodes: {starter} started {size} processes ({names[2]}), "
            f"but the spec asks for {train.num_gpus} on each of {train.num_nodes} machines"
        )
    if not (local_rank < train.num_gpus and local_rank == rank % train.num_gpus):
        raise SpecError(
            f"train.num_gpus: {starter} made process {rank} number {local_rank} of its machine ({names[1]}), "
            f"but the spec asks for {train.num_gpus} on each"
        )
    return World(rank, local_rank, size, train.num_gpus)


def meeting_place(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Return host and port where the processes of a world find each other.

    Raises:
        SpecError: Nothing names it.
    """
    if all(name in environment for name in _MEETING):
        return environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    if "SLURM_NODELIST" in environment and "SLURM_JOB_ID" in environment:
        first = SLURMEnvironment.resolve_root_node_address(environment["SLURM_NODELIST"])
        return first, 15000 + int(environment["SLURM_JOB_ID"][-4:])  # jobs on one machine need ports of their own
    missing = [name for name in _MEETING if name not in environment]
    raise SpecError(f"train.num_nodes: the environment lacks {' and '.join(missing)}, where the processes meet")


def set_variables(world: World, address: str, port: int) -> dict[str, str]:
    """Return the variables by which libraries, Lightning among them, know this process."""
    return {
        "RANK": str(world.rank),
        "LOCAL_RANK": str(world.local_rank),
        "WORLD_SIZE": str(world.size),
        "LOCAL_WORLD_SIZE": str(world.local_size),
        "GROUP_RANK": str(world.rank // world.local_size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def node_rank(train: TrainSection, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of this machine, for a run that no torchrun and no srun started.

    Raises:
        SpecError: There are several machines and the environment does not say which this is, or wrongly.
    """
    if train.num_nodes == 1:
        return 0
    missing = [name for name in (*_MEETING, "NODE_RANK") if name not in environment]
    if missing:
        raise SpecError(
            f"train.num_nodes: {train.num_nodes}: start the run on every machine with torchrun or srun, "
            f"or set {', '.join(missing)} there"
        )
    number = int(environment["NODE_RANK"])
    if not 0 <= number < train.num_nodes:
        raise SpecError(f"train.num_nodes: NODE_RANK is {number}, of {train.num_nodes} machines counted from 0")
    return number


def check_devices(train: TrainSection) -> None:
    """Refuse devices that are not there; without any GPU, `train.num_gpus` counts CPU processes.

    Raises:
        SpecError: torch does not see a device of `train.gpu_ids`.
    """
    count = torch.cuda.device_count()
    there = count or train.num_gpus
    missing = [number for number in train.gpu_ids if number >= there]
    if missing:
        raise SpecError(f"train.gpu_ids: {', '.join(map(str, missing))}: torch sees {count} GPUs here")


def share_threads(world: World, environment: Mapping[str, str] = os.environ) -> None:
    """Divide the cores among the processes of this machine; OMP_NUM_THREADS wins."""
    if world.local_size > 1 and "OMP_NUM_THREADS" not in environment:
        torch.set_num_threads(max(1, torch.get_num_threads() // world.local_size))
