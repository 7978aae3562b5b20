"""The command `model-info`: the parameters, operations and memory of a spec's network, part by part."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from json import dumps
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from oneformer_model.build import build
from oneformer_model.network.deformable_attention import DeformableAttention, sample_grids
from oneformer_model.network.oneformer import OneFormer, TrainingPrediction
from oneformer_model.network.text_branch import Texts
from oneformer_spec.errors import OneFormerError
from oneformer_spec.schema import ModelSection, Spec
from oneformer_spec.segmentation.frame import FitInto, Size, plan
from oneformer_spec.segmentation.manifest import size_rule

PICTURE = (480, 640)  # height and width of most COCO images; stands for all where a size depends on the picture
INFERENCE = ("fp32", "bf16")  # precisions; fp16 takes what bf16 does
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Evaluation:
    """One image through the network: operations by part, and bytes by precision."""

    height: int
    width: int
    flops: Mapping[str, int]
    memory: Mapping[str, int]


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training step in all, weights, gradients and optimiser state included."""

    activation_checkpoint: bool
    bytes: int


@dataclass(frozen=True)
class Training:
    """A training step of one device; `optimizer_state` is a part of every row of `memory`."""

    height: int
    width: int
    batch_size: int
    precision: str
    optimizer: str
    optimizer_state: int
    memory: tuple[TrainingMemory, ...]


@dataclass(frozen=True)
class ModelInfo:
    """Parameters, operations and memory of a network."""

    parameters: Mapping[str, int]
    evaluation: Evaluation
    training: Training


def run(spec: Spec, *, json: bool = False) -> None:
    """Print the parameters, operations and memory of the network that the spec describes, as a table or as JSON.

    Raises:
        SpecError: The parts do not fit together.
        OneFormerError: The backbone looks at values, so that its cost cannot be worked out from shapes.
    """
    try:
        info = model_info(spec)
    except RuntimeError as error:
        kind, reason = spec.model.backbone.type, " ".join(str(error).split())
        raise OneFormerError(f"model.backbone.type: {kind} does not run on shapes alone: {reason}") from error
    print(dumps(asdict(info), indent=2) if json else "\n".join(_lines(info)))


def model_info(spec: Spec) -> ModelInfo:
    """Compute the cost of `spec.model` at the evaluation size and the training size given in `spec.dataset`."""
    network = Network(spec.model, spec.dataset.task_seq_len, spec.dataset.max_seq_len)
    parameters = network.parameters()
    height, width = _evaluation_size(spec)
    evaluation = Evaluation(
        height=height,
        width=width,
        flops=network.flops((height, width)),
        memory={name: network.inference_memory((height, width), precision=name) for name in INFERENCE},
    )
    return ModelInfo(parameters, evaluation, _training(spec, network))


def _training(spec: Spec, network: Network) -> Training:
    height, width = _training_size(spec)
    batch, optim = spec.dataset.train.batch_size, spec.train.optim
    copies = 2 if optim.type == "AdamW" else int(optim.momentum > 0)
    state = copies * FLOAT_BYTES * sum(network.parameters(trained=True).values())
    memory = tuple(
        TrainingMemory(
            checkpoint,
            state
            + network.training_memory(
                (height, width), precision=spec.train.precision, activation_checkpoint=checkpoint, batch=batch
            ),
        )
        for checkpoint in (True, False)
    )
    return Training(height, width, batch, spec.train.precision, optim.type, state, memory)


def _evaluation_size(spec: Spec) -> Size:
    """Return the padded size of the largest picture that `image_size` allows, or else of a usual one."""
    rule = size_rule(spec)
    picture = (rule.height, rule.width) if isinstance(rule, FitInto) else PICTURE
    return plan(picture, rule, divisibility=spec.model.one_former.size_divisibility).padded


def _training_size(spec: Spec) -> Size:
    height, width = spec.dataset.augmentation.train_crop_size
    return plan((height, width), FitInto(height, width), divisibility=spec.model.one_former.size_divisibility).padded


def _lines(info: ModelInfo) -> Iterator[str]:
    evaluation, training = info.evaluation, info.training
    yield f"{'part':<16}{'parameters':>14}   GFLOP of an image of {evaluation.width} x {evaluation.height}"
    for part, count in info.parameters.items():
        yield f"{part.replace('_', ' '):<16}{_grouped(count)}{evaluation.flops[part] / 1e9:>12.1f}"
    yield f"{'all':<16}{_grouped(sum(info.parameters.values()))}{sum(evaluation.flops.values()) / 1e9:>12.1f}"
    yield ""
    yield "memory, estimated"
    for precision, size in evaluation.memory.items():
        yield f"  inference of an image, {precision:<28}{_gib(size)}"
    for row in training.memory:
        how = "activation checkpointing" if row.activation_checkpoint else "all activations kept"
        yield f"  training, {training.precision}, {how:<35}{_gib(row.bytes)}"
    yield (
        f"  training is at {training.width} x {training.height}, batch {training.batch_size}; "
        f"{training.optimizer} holds {_gib(training.optimizer_state).strip()} of it"
    )


def _grouped(count: int) -> str:
    return f"{count:>14,}"


def _gib(size: int) -> str:
    return f"{size / 2**30:>8.2f} GiB"


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
    """Counts the bytes of all live tensors; tensors that share memory count once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.add, result)
        return result

    def add(self, tensor: Tensor) -> None:
        """Count a tensor until its memory is freed."""
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
