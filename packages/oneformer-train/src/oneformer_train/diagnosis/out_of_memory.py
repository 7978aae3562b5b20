"""When memory runs out, one line says which fields of the spec need less of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from oneformer_spec.errors import OneFormerError
from oneformer_spec.schema import Spec

_SIGNS = (
    "out of memory",  # CUDA, cuDNN
    "CUBLAS_STATUS_ALLOC_FAILED",
    "can't allocate memory",  # torch's allocator on the CPU
    "not enough memory",
    "is killed by signal: Killed",  # the system took a loader process, the largest it found
)

# What needs less memory, and whether the spec still leaves room for it; the most effective first.
_ADVICE: tuple[tuple[Callable[[Spec], bool], Callable[[Spec], str]], ...] = (
    (
        lambda spec: spec.dataset.train.batch_size > 1,
        lambda spec: (
            f"a dataset.train.batch_size below {spec.dataset.train.batch_size}, "
            f"with train.accumulate_grad_batches above {spec.train.accumulate_grad_batches} to make up for it"
        ),
    ),
    (
        lambda spec: True,
        lambda spec: f"a dataset.augmentation.train_crop_size below {list(spec.dataset.augmentation.train_crop_size)}",
    ),
    (lambda spec: not spec.train.activation_checkpoint, lambda spec: "train.activation_checkpoint=true"),
    (lambda spec: spec.train.precision == "fp32", lambda spec: "train.precision=bf16"),
    (
        lambda spec: len(spec.train.gpu_ids) * spec.train.num_nodes > 1 and spec.train.distributed_strategy != "fsdp",
        lambda spec: "train.distributed_strategy=fsdp",
    ),
    (
        lambda spec: spec.dataset.val.batch_size > 1,
        lambda spec: f"a dataset.val.batch_size below {spec.dataset.val.batch_size}",
    ),
    (
        lambda spec: spec.dataset.train.num_workers > 1,
        lambda spec: f"dataset.train.num_workers below {spec.dataset.train.num_workers} (main memory)",
    ),
)


class MemoryExhaustedError(OneFormerError):
    """Training needs more memory than there is."""


@contextmanager
def explaining_memory(spec: Spec) -> Iterator[None]:
    """Turn every kind of error that says "no memory left" into one that names the fields that help.

    Raises:
        MemoryExhaustedError: Memory ran out, of a GPU or of the machine.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        advice = "; ".join(words(spec) for applies, words in _ADVICE if applies(spec))
        raise MemoryExhaustedError(f"memory ran out ({_first_line(error)}); less is needed with: {advice}") from error


def ran_out(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(sign in str(error) for sign in _SIGNS)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
