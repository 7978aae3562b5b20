"""What the processes of a run tell each other; alone, every function returns its argument."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from oneformer_spec.processes.world import World

T = TypeVar("T")
_PATIENCE = timedelta(minutes=30)  # one process may validate, read or save that much longer than another


@contextlib.contextmanager
def group(world: World, store: dist.Store, device: torch.device) -> Iterator[None]:
    """Join the group of all processes: NCCL between GPUs, gloo between CPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore("group", store),
        rank=world.rank,
        world_size=world.size,
        timeout=_PATIENCE,
        device_id=device if device.type == "cuda" else None,
    )
    yield
    _messages.cache_clear()
    dist.destroy_process_group()  # not after an error: it could wait for processes that are gone


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _together() else 1


def rank() -> int:
    """Return the number of this process, counted from 0."""
    return dist.get_rank() if _together() else 0


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows (B, X) of all ranks, (world B, X); gradients flow to every rank."""
    return cast(Tensor, _GatherRows.apply(rows)) if _together() else rows


def mean(values: Tensor) -> Tensor:
    """Return the mean over ranks; no gradients."""
    if not _together():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def mean_terms(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return scalars with the values of their means over ranks and the gradients of this rank's own."""
    if not _together():
        return dict(terms)
    means = mean(torch.stack([value.detach().float() for value in terms.values()]))
    return {
        name: value + (average - value.detach())
        for (name, value), average in zip(terms.items(), means.unbind(), strict=True)
    }


def largest(number: int) -> int:
    """Return the largest of a number over ranks."""
    if not _together():
        return number
    found = torch.tensor(number)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=_messages())
    return int(found)


def from_first(make: Callable[[], T]) -> T:
    """Call `make` on rank 0 and return what it made on every rank."""
    if not _together():
        return make()
    made = [make() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(made, src=0, group=_messages(), device=torch.device("cpu"))
    return made[0]  # type: ignore[return-value]  # rank 0 made it


def collect(part: T) -> list[T] | None:
    """Return the parts of all ranks, in their order, on rank 0 and None elsewhere."""
    if not _together():
        return [part]
    parts: list[T | None] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(part, parts, dst=0, group=_messages())
    return parts  # type: ignore[return-value]  # gathering filled it


class _GatherRows(torch.autograd.Function):
    """Every rank's loss may read every row, so a row's gradient is the sum of what all ranks send back."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        found = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(found, rows.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


@cache
def _messages() -> dist.ProcessGroup | None:
    """Return the group for plain data, between CPUs also where tensors travel between GPUs."""
    if dist.get_backend() != "nccl":
        return None
    made = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return made if isinstance(made, dist.ProcessGroup) else None
