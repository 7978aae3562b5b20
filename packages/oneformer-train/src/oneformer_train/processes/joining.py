"""Training on several devices and machines: who starts the processes, and how each of them takes part."""

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
from oneformer_train.processes.launch import launch
from oneformer_train.processes.places import (
    check_devices,
    joined_world,
    meeting_place,
    set_variables,
    share_threads,
)
from oneformer_train.processes.sharding import strategy

Guard = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the error of another process is known by its cause."""

Train = Callable[[Spec, World, Guard], None]


def run_everywhere(spec: Spec, train: Train) -> None:
    """Call `train` in every process that the spec asks for.

    The processes are those that torchrun or srun started, this one among them; else they are started here.

    Raises:
        SpecError: The spec asks for devices that are not there, or for other processes than were started.
    """
    check_devices(spec.train)
    world = joined_world(spec.train)
    if world is None and spec.train.num_gpus * spec.train.num_nodes > 1:
        launch(spec)
    elif world is None or world.size == 1:
        train(spec, ALONE, nullcontext)
    else:
        _take_part(spec, world, train)


def trainer_settings(train: TrainSection, world: World) -> dict[str, Any]:
    """Return what Lightning's trainer is told about devices."""
    gpus = torch.cuda.is_available()
    settings = {
        "accelerator": "gpu" if gpus else "cpu",
        "devices": list(train.gpu_ids) if gpus else train.num_gpus,
        "num_nodes": train.num_nodes,
        "use_distributed_sampler": False,  # the loaders know what falls to which process
    }
    return settings if world.size == 1 else settings | {"strategy": strategy(train.distributed_strategy)}


def cluster(world: World) -> ClusterEnvironment:
    """Return what tells Lightning who takes part; left alone it would ask SLURM, whose tasks may be others."""
    return TorchElasticEnvironment() if world.size > 1 else LightningEnvironment()


def _take_part(spec: Spec, world: World, train: Train) -> None:
    address, port = meeting_place()
    os.environ.update(set_variables(world, address, port))  # srun's own are other ones
    share_threads(world)
    store, _, _ = next(dist.rendezvous(f"tcp://{address}:{port}", world.rank, world.size))
    guard = partial(failing_together, store, world.rank)
    device = torch.device("cuda", spec.train.gpu_ids[world.local_rank]) if torch.cuda.is_available() else "cpu"
    try:
        with guard(), _heard(world), group.group(world, store, torch.device(device)):
            train(spec, world, guard)
    except PeerError as error:
        raise SystemExit(error.exit_code) from None  # the other process has said why


@contextlib.contextmanager
def _heard(world: World) -> Iterator[None]:
    """Let the first process alone write to the terminal."""
    if world.is_first:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
