"""Tensors that depend on sizes alone: made once per size, kept outside of the modules' state."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Constant = TypeVar("Constant")
_KEPT = 256  # results per function; what is cached grows with an image's edge or a window, not with its area


def constant(function: Callable[Arguments, Constant]) -> Callable[Arguments, Constant]:
    """Cache a function of hashable positional arguments that returns a tensor, or a tuple of them, nobody writes to.

    Such tensors are no buffers, so they appear in no checkpoint and in no broadcast between processes. While a graph is
    traced the function runs uncached: a tracer's values must not outlive it.
    """

    @lru_cache(maxsize=_KEPT)
    def remembered(*args: Hashable) -> Constant:
        with torch.inference_mode(False), torch.no_grad():  # an inference tensor could not serve training later
            return cast(Callable[..., Constant], function)(*args)

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Constant:
        if is_traced():
            return function(*args, **kwargs)
        return remembered(*cast(tuple[Hashable, ...], args))

    return call


def is_traced() -> bool:
    """Tell whether a graph is made of this call: torch.compile, torch.export or TorchScript."""
    return torch.compiler.is_compiling() or is_tracing()


def is_tracing() -> bool:
    """Tell whether TorchScript traces this call, as it does in the export to older ONNX opsets."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def plain_sizes(x: Tensor, *dims: int) -> tuple[int, ...]:
    """Return sizes of `x` as plain numbers, also while TorchScript traces: there they would join the graph."""
    if is_tracing():
        return tuple(int(x.shape[dim]) for dim in dims)
    return tuple(x.shape[dim] for dim in dims)
