"""Tensors that depend on sizes alone: made once per size, kept outside of the modules' state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch._guards import active_fake_mode

Arguments = ParamSpec("Arguments")
Constant = TypeVar("Constant")
_KEPT = 256  # results per function; what is cached grows with an image's edge or a window, not with its area


def constant(function: Callable[Arguments, Constant]) -> Callable[Arguments, Constant]:
    """Cache a function of hashable positional arguments that returns a tensor, or a tuple of them, nobody writes to.

    Such tensors are no buffers, so they appear in no checkpoint and in no broadcast between processes. While a graph is
    traced, or tensors are fake, the function runs uncached: such values must not outlive the tracer.
    """

    @lru_cache(maxsize=_KEPT)
    def remembered(*args: Hashable) -> Constant:
        with torch.inference_mode(False), torch.no_grad():  # an inference tensor could not serve training later
            return cast(Callable[..., Constant], function)(*args)

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Constant:
        if is_traced() or active_fake_mode() is not None:
            return function(*args, **kwargs)
        return remembered(*cast(tuple[Hashable, ...], args))

    return call


def is_traced() -> bool:
    """Tell whether a graph is made of this call: torch.compile, torch.export or TorchScript."""
    return torch.compiler.is_compiling() or is_tracing()


def is_tracing() -> bool:
    """Tell whether TorchScript traces this call, as it does in the export to older ONNX opsets."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


_open_sizes: ContextVar[bool] = ContextVar("open_sizes", default=False)


@contextmanager
def open_sizes() -> Iterator[None]:
    """Let sizes join the graphs that TorchScript traces meanwhile: such a graph takes images of any size."""
    token = _open_sizes.set(True)
    try:
        yield
    finally:
        _open_sizes.reset(token)


def are_sizes_open() -> bool:
    """Tell whether this call is traced for images of any size."""
    return is_tracing() and _open_sizes.get()


def plain_sizes(x: Tensor, *dims: int) -> tuple[int, ...]:
    """Return sizes of `x` as plain numbers, also while TorchScript traces; inside `open_sizes`, they join the graph.

    There they are tensors that know the arithmetic of numbers: `numbers` makes tensors of them, `is_zero` is what a
    branch may ask, and anything else that takes a decision belongs to one size.
    """
    if is_tracing() and not _open_sizes.get():
        return tuple(int(x.shape[dim]) for dim in dims)
    return tuple(x.shape[dim] for dim in dims)


def is_zero(*values: object) -> bool:
    """Tell whether all values, computed from sizes, are 0 whatever the size."""
    return not any(isinstance(value, Tensor) or value for value in values)


def numbers(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return values computed from sizes as a tensor (N,)."""
    if any(isinstance(value, Tensor) for value in values):
        return torch.stack([torch.as_tensor(value, dtype=dtype, device=device) for value in values])
    return torch.tensor(values, dtype=dtype, device=device)
