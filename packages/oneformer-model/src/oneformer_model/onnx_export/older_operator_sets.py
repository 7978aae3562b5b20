"""Forms of torch's operations that every ONNX operator set from 12 on can express."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
    """Return what `F.scaled_dot_product_attention` does in eval mode, (B, M, Q, C), as two products and a softmax."""
    if options.get("is_causal") or options.get("enable_gqa"):
        return F.scaled_dot_product_attention(query, key, value, attn_mask, **options)
    scale = options.get("scale") or int(query.shape[-1]) ** -0.5
    scores = (query * scale) @ key.transpose(-2, -1)
    if attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(attn_mask.logical_not(), float("-inf")) if masked else scores + attn_mask
    return scores.softmax(dim=-1) @ value


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Return what `Tensor.unflatten` does."""
    dim %= x.dim()
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


_FORMS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.scaled_dot_product_attention: attention,  # operator sets below 14 have no form of it
    Tensor.unflatten: unflatten,  # nor those below 13
}


class OldestForms(TorchFunctionMode):
    """While this is entered, torch computes by the forms above."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace a function that has a form here."""
        return _FORMS.get(func, func)(*args, **(kwargs or {}))
