"""Errors in loader processes: they are raised where the batch is read, as they would be without such processes."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset, get_worker_info

from oneformer_spec.errors import OneFormerError


class _Indexed(Protocol):
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Raised:
    """An error on its way out of a loader process, in place of a batch."""

    error: Exception


class Batches(Dataset[Any]):
    """Whole batches of a data set, made in one place so that whatever fails there can be carried out of a process.

    torch itself raises a text in its place: the name of the error's type with the traceback in the message.
    """

    def __init__(self, samples: _Indexed, collate: Callable[[Sequence[Any]], Any]) -> None:
        """Make a batch of samples with `collate`."""
        self.samples = samples
        self.collate = collate

    def __getitem__(self, index: int) -> Any:
        """Return one sample, not collated."""
        return self.samples[index]

    def __getitems__(self, indices: Sequence[int]) -> Any:
        """Return the batch of the samples at the indices, or in a loader process the error that it caused."""
        try:
            return self.collate([self.samples[index] for index in indices])
        except Exception as error:
            if get_worker_info() is None:
                raise
            return Raised(_portable(error))


class Loader(DataLoader[Any]):
    """A loader of `Batches`; it raises the errors of its processes as they were."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names its own class of iterators
        """Yield the batches of an epoch."""
        for batch in super().__iter__():
            if isinstance(batch, Raised):
                raise batch.error
            yield batch


def unchanged(batch: Any) -> Any:
    """Return the batch: the `collate_fn` of loaders whose data set collates."""
    return batch


def _portable(error: Exception) -> Exception:
    """Return an error that another process can read, with the traceback as a note, which --debug shows."""
    trace = "".join(traceback.format_exception(error))
    try:
        carried: Exception = pickle.loads(pickle.dumps(error))
        is_whole = str(carried) == str(error)
    except Exception:  # errors may hold anything
        is_whole = False
    if not is_whole:
        reason = " ".join(str(error).split()) or "no message"
        carried = OneFormerError(f"{type(error).__name__}: {reason} (run again with --debug to see where)")
    carried.add_note(trace)
    return carried
