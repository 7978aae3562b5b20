"""The command `model-info`: what the network of a spec costs, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from json import dumps

from oneformer_model.cost import Network
from oneformer_spec.errors import OneFormerError
from oneformer_spec.frame import FitInto, Size, plan
from oneformer_spec.manifest import size_rule
from oneformer_spec.schema import Spec

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
    """What a network costs."""

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
    """Work out what `spec.model` costs at the evaluation size and at the training size of `spec.dataset`."""
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
