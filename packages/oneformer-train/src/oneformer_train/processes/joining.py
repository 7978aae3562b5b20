"""How a process takes part in training on several devices and machines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment

from oneformer_spec.processes.world import ALONE, World
from oneformer_spec.schema import Spec, TrainSection
from oneformer_train.processes import group
from oneformer_train.processes.failures import PeerError, failing_together
from oneformer_train.processes.places import meeting_place, set_variables, share_threads
from oneformer_train.processes.sharding import strategy

Guard = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the error of another process is known by its cause."""

Run = Callable[[World, Guard, Spec], None]
"""One process's part of a run."""


def take_part(spec: Spec, world: World | None, run: Run) -> None:
    """Call `run` in this process: alone where `world` is None or of one process, else once it has met the others."""
    if world is None or world.size == 1:
        run(ALONE, nullcontext, spec)
        return
    address, port = meeting_place()
    os.environ.update(set_variables(world, address, port))  # srun's own are other ones
    share_threads(world)
    store, _, _ = next(dist.rendezvous(f"tcp://{address}:{port}", world.rank, world.size))
    guard = partial(failing_together, store, world.rank)
    device = torch.device("cuda", spec.train.gpu_ids[world.local_rank]) if torch.cuda.is_available() else "cpu"
    try:
        with guard(), _heard(world), group.group(world, store, torch.device(device)):
            run(world, guard, spec)
    except PeerError as error:
        raise SystemExit(error.exit_code) from None  # the other process has reported why


def trainer_settings(train: TrainSection, world: World) -> dict[str, Any]:
    """Return the arguments of Lightning's trainer that choose devices and strategy."""
    gpus = torch.cuda.is_available()
    settings = {
        "accelerator": "gpu" if gpus else "cpu",
        "devices": list(train.gpu_ids) if gpus else train.num_gpus,
        "num_nodes": train.num_nodes,
        "use_distributed_sampler": False,  # the loaders know what falls to which process
    }
    return settings if world.size == 1 else settings | {"strategy": strategy(train.distributed_strategy)}


def cluster(world: World) -> ClusterEnvironment:
    """Return where Lightning reads the processes from; by itself it might choose SLURM, whose tasks may be others."""
    return TorchElasticEnvironment() if world.size > 1 else LightningEnvironment()


@contextlib.contextmanager
def _heard(world: World) -> Iterator[None]:
    """Let only the first process write to the terminal."""
    if world.is_first:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
