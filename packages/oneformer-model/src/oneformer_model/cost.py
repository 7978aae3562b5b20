"""What a network costs in operations and memory, worked out from shapes: nothing is computed and no memory is taken.

The network runs with torch's fake tensors, which have shapes and lifetimes but no values. Operations are those of
matrix products and convolutions, 2 per multiply-add. Memory is the largest sum of all tensors alive at one moment,
weights included, with deformable attention as GPUs compute it.

What is not counted: work space inside kernels, gaps between allocations, the losses themselves, and the context of a
GPU's driver.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from oneformer_model.build import build
from oneformer_model.deformable import DeformableAttention, sample_grids
from oneformer_model.oneformer import OneFormer, TrainingPrediction
from oneformer_model.text_encoder import Texts
from oneformer_spec.frame import Size
from oneformer_spec.schema import ModelSection

PARTS = ("backbone", "pixel_decoder", "query_decoder", "task_encoder", "text_branch")
DTYPES: Mapping[str, torch.dtype | None] = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Number format of each precision under autocast; None switches it off."""
DIFFERENT_TEXTS = 10  # per image: most of its texts are the one filler


@dataclass(frozen=True)
class Network:
    """A network without values: `section` of the spec and the token counts of a task's sentence and of a text."""

    section: ModelSection
    task_length: int
    text_length: int

    @contextlib.contextmanager
    def opened(self, *, training: bool, activation_checkpoint: bool = False) -> Iterator[OneFormer]:
        """Build the network; while it is open, every new tensor is fake."""
        with torch.device("meta"):  # fake tensors cannot draw from a truncated normal, which looks at values
            model = build(
                self.section,
                training=training,
                activation_checkpoint=activation_checkpoint,
                task_length=self.task_length,
            )
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu").train(training)
            for module in model.modules():
                if isinstance(module, DeformableAttention):
                    module.sampler = sample_grids
            yield model

    def parameters(self, *, trained: bool = False) -> dict[str, int]:
        """Return the number of parameters of each part; `trained` leaves out those that `freeze_at` freezes."""
        with self.opened(training=True) as model:
            return {
                part: sum(p.numel() for p in getattr(model, part).parameters() if p.requires_grad or not trained)
                for part in PARTS
            }

    def flops(self, size: Size) -> dict[str, int]:
        """Return the operations of a forward pass for one image of a size (height, width), by part."""
        counter = FlopCounterMode(display=False, depth=2)
        with self.opened(training=False) as model, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            model.requires_grad_(False)
            with counter:
                model(*self._inputs(1, size))
        found = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
        parts = {part: found.get(f"{OneFormer.__name__}.{part}", 0) for part in PARTS}
        parts["query_decoder"] += counter.get_total_flops() - sum(parts.values())  # the product that makes the masks
        return parts

    def inference_memory(self, size: Size, *, precision: str, batch: int = 1) -> int:
        """Return the bytes of a forward pass for `batch` images of a size (height, width)."""
        with self.opened(training=False) as model, torch.inference_mode(), _alive(model) as alive, _cast(precision):
            model(*self._inputs(batch, size))
        return alive.peak

    def training_memory(self, size: Size, *, precision: str, activation_checkpoint: bool, batch: int = 1) -> int:
        """Return the bytes of a forward and backward pass for `batch` images of a size, without optimiser state."""
        with self.opened(training=True, activation_checkpoint=activation_checkpoint) as model, _alive(model) as alive:
            with _cast(precision):
                prediction = cast(TrainingPrediction, model(*self._inputs(batch, size), self._texts(batch)))
            outputs = [
                *prediction.class_logits,
                *prediction.mask_embeddings,
                prediction.mask_features,
                prediction.queries,
                prediction.text_queries,
            ]
            del prediction
            torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
        return alive.peak

    def _inputs(self, batch: int, size: Size) -> tuple[Tensor, Tensor]:
        return torch.empty(batch, 3, *size), torch.empty(batch, self.task_length)

    def _texts(self, batch: int) -> Texts:
        texts = self.section.one_former.num_object_queries - self.section.text_encoder.n_ctx
        different = batch * min(DIFFERENT_TEXTS, texts)
        return Texts(
            torch.empty(different, self.text_length, dtype=torch.int64), torch.empty(batch, texts, dtype=torch.int64)
        )


class _Alive(TorchDispatchMode):
    """Adds up the bytes of all tensors alive; tensors that share memory count once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.add, result)
        return result

    def add(self, tensor: Tensor) -> None:
        """Count a tensor from now until its memory is freed."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._remove, storage._cdata, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


@contextlib.contextmanager
def _alive(model: OneFormer) -> Iterator[_Alive]:
    alive = _Alive()
    for tensor in (*model.parameters(), *model.buffers()):
        alive.add(tensor)
    with alive:
        yield alive


@contextlib.contextmanager
def _cast(precision: str) -> Iterator[None]:
    dtype = DTYPES[precision]
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        yield
