"""Everything that only TorchScript's exporter needs, which writes operator sets 12 to 17 and graphs of open sizes.

It records the calls of one forward pass. Sizes are tensors in that recording, so that they can follow the input, and
some operators do not exist in the older sets. `recordable` changes what torch's functions do meanwhile; the network
itself knows nothing of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from oneformer_model.network.deformable_attention import Points
from oneformer_model.network.deformable_attention_cpu import Shapes

GRID_SAMPLE_OPSET = 16
"""The first operator set with GridSample."""


@contextlib.contextmanager
def recordable(*, sizes_are_open: bool) -> Iterator[None]:
    """Let torch compute by forms that every operator set from 12 on can express.

    With `sizes_are_open` heights and widths follow the input; otherwise they are those of the example.
    """
    with _Forms(_FORMS if sizes_are_open else {**_FORMS, **_FIXED_SIZES}):
        yield


class _Forms(TorchFunctionMode):
    """While this is entered, torch's functions are replaced by those of a table."""

    def __init__(self, forms: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
        super().__init__()
        self.forms = forms

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace a function that the table has."""
        return self.forms.get(func, func)(*args, **(kwargs or {}))


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


def split(x: Tensor, sizes: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Return what `Tensor.split` does; sizes that follow the input become bounds of slices."""
    if isinstance(sizes, int) or not any(isinstance(size, Tensor) for size in sizes):
        return x.split(sizes, dim)
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    before = (slice(None),) * (dim % x.dim())
    return tuple(x[(*before, slice(end - size, end))] for size, end in zip(sizes, ends, strict=True))


def contiguous(x: Tensor, **_: Any) -> Tensor:
    """Return the tensor: a graph has one memory layout."""
    return x


def is_contiguous(x: Tensor, **_: Any) -> bool:
    """Return what holds for every tensor of a graph."""
    return True


_FORMS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.scaled_dot_product_attention: attention,  # not before operator set 14
    Tensor.unflatten: unflatten,  # not before 13
    Tensor.split: split,
    Tensor.contiguous: contiguous,
    Tensor.is_contiguous: is_contiguous,
}


def shape(x: Tensor) -> tuple[Any, ...]:
    """Return the sizes of a tensor, the first of which may follow the batch, as numbers after the first."""
    first, *others = _shape(x) or (None,)
    return () if first is None else (first, *map(int, others))


def size(x: Tensor, dim: int | None = None) -> Any:
    """Return what `Tensor.size` does, as numbers after the first axis."""
    sizes = shape(x)
    return sizes if dim is None else sizes[dim]


_shape: Callable[[Tensor], tuple[Any, ...]] = Tensor.shape.__get__  # type: ignore[attr-defined]
_FIXED_SIZES: Mapping[Callable[..., Any], Callable[..., Any]] = {_shape: shape, Tensor.size: size}


def sample_rows(value: Tensor, shapes: Shapes, points: Points, weights: Tensor) -> Tensor:
    """Sample deformable attention by gathering the four neighbours of each point, for sets without GridSample.

    Args:
        value: Tokens of all levels, (B, S, M, D).
        shapes: Height and width of each level; maps are zero beyond their edge.
        points: x and y, (B, Q, M * L * P) each, in pixels of their level.
        weights: (B, Q, M * L * P).
    """
    batch, _, heads, dim = value.shape
    levels = value.split([height * width for height, width in shapes], dim=1)
    x, y, weights = (part.unflatten(-1, (heads, len(shapes), -1)) for part in (*points, weights))  # (B, Q, M, L, P)
    lanes = torch.arange(batch * heads, device=value.device).reshape(batch, 1, heads, 1)
    total: Tensor | None = None
    for index, (height, width) in enumerate(shapes):
        table = F.pad(levels[index].unflatten(1, (height, width)).permute(0, 3, 1, 2, 4), (0, 0, 1, 1, 1, 1))
        rows = table.reshape(-1, dim)  # (B * M * (h + 2) * (w + 2), D): a border of zeros lies around each map
        column, right = _cell(x[..., index, :], width)
        row, below = _cell(y[..., index, :], height)
        first = (lanes * (height + 2) + row) * (width + 2) + column  # (B, Q, M, P)
        for offset, share in (
            (0, (1 - right) * (1 - below)),
            (1, right * (1 - below)),
            (width + 2, (1 - right) * below),
            (width + 3, right * below),
        ):
            part = (share * weights[..., index, :])[..., None, :] @ rows[first + offset]  # (B, Q, M, 1, D)
            total = part if total is None else total + part
    assert total is not None
    return total.flatten(2).to(value.dtype)


def _cell(position: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the cell before each position on an axis with a border of one cell, int64, and the distance from there.

    What lies beyond the border moves onto it, where all is zero.
    """
    inside = (position + 1).clamp(min=0).minimum(_like(position, length + 1))
    cell = inside.floor().minimum(_like(position, length))
    return cell.long(), inside - cell


def _like(x: Tensor, length: int) -> Tensor:
    """Return a length, a number or a tensor that follows the input, as a tensor () of the type of `x`."""
    return torch.as_tensor(length, dtype=x.dtype, device=x.device)
