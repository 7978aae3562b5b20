"""A cache for tensors that depend on sizes alone: each is computed once per size, outside of the modules' state."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch._guards import active_fake_mode

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_MAX_RESULTS = 256  # per function; a result grows with an image's edge or a window, not with its area


def cached_by_size(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Cache a function that returns a tensor, or a tuple of tensors, from hashable positional arguments.

    Callers must not write to the result. The tensors are not buffers, so they appear in no checkpoint and are not
    broadcast between processes. Inside torch.compile and torch.export, whose tensors hold no values, and where a size
    is itself a tensor, the function runs uncached.
    """

    @lru_cache(maxsize=_MAX_RESULTS)
    def remembered(*args: Hashable) -> Result:
        with torch.inference_mode(False), torch.no_grad():  # an inference tensor could not serve training later
            return cast(Callable[..., Result], function)(*args)

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if torch.compiler.is_compiling() or active_fake_mode() is not None or _has_tensor(args):
            return function(*args, **kwargs)
        return remembered(*cast(tuple[Hashable, ...], args))

    return call


def _has_tensor(args: tuple[object, ...]) -> bool:
    return any(isinstance(value, Tensor) or (isinstance(value, tuple) and _has_tensor(value)) for value in args)
