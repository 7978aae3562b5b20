"""What must hold between fields, whatever the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from oneformer_spec.loading.dotted import has
from oneformer_spec.loading.layers import Layer
from oneformer_spec.loading.problems import Problems
from oneformer_spec.schema.backbones import DinatOptions, SwinOptions
from oneformer_spec.schema.spec import Spec

PROBABILITY_TOLERANCE = 0.01 + 1e-9


@dataclass(frozen=True)
class Finding:
    """A relation that does not hold: the fields that take part, and what is wrong in words."""

    paths: tuple[str, ...]
    message: str


Relation = Callable[[Spec], Iterator[Finding]]


def check_relations(
    relations: tuple[Relation, ...], spec: Spec, layer: Layer, broken: set[str], problems: Problems
) -> None:
    """Report findings at the first field that the user wrote; a field that is wrong by itself takes no part."""
    for relation in relations:
        for finding in relation(spec):
            if broken.isdisjoint(finding.paths):
                path = next((path for path in finding.paths if has(layer.data, path)), finding.paths[0])
                problems.add(f"{layer.name(path)}: {finding.message}", layer.place(tuple(path.split("."))))


def _order(spec: Spec) -> Iterator[Finding]:
    """Pairs of which the first must not be above the second."""
    rules = [
        ("dataset.min_scale", "dataset.max_scale"),
        ("dataset.augmentation.test_min_size", "dataset.augmentation.test_max_size"),
        ("gen_trt_engine.tensorrt.min_batch_size", "gen_trt_engine.tensorrt.opt_batch_size"),
        ("gen_trt_engine.tensorrt.opt_batch_size", "gen_trt_engine.tensorrt.max_batch_size"),
    ]
    for small, large in rules:
        low, high = value_at(spec, small), value_at(spec, large)
        if low > high:
            yield Finding((small, large), f"{small} ({low}) must not be above {large} ({high})")
    augmentation = spec.dataset.augmentation
    sizes = ("dataset.augmentation.train_min_size", "dataset.augmentation.train_max_size")
    if max(augmentation.train_min_size) > augmentation.train_max_size:
        largest = max(augmentation.train_min_size)
        yield Finding(
            sizes, f"train_min_size ({largest}) must not be above train_max_size ({augmentation.train_max_size})"
        )


def _ascending(spec: Spec) -> Iterator[Finding]:
    for path in ("train.optim.milestones", "train.optim.steps"):
        values = value_at(spec, path) or ()
        if any(low >= high for low, high in pairwise(values)):
            yield Finding((path,), f"found {list(values)}, expected rising numbers")


def _task_probabilities(spec: Spec) -> Iterator[Finding]:
    path = "dataset.task_prob_train"
    total = sum(spec.dataset.task_prob_train.values())
    if abs(total - 1) > PROBABILITY_TOLERANCE:
        yield Finding((path,), f"the probabilities sum to {total:.4g}, expected 1; a task left out counts as 0")


def _decoder(spec: Spec) -> Iterator[Finding]:
    decoder, head, text = spec.model.one_former, spec.model.sem_seg_head, spec.model.text_encoder
    heads = "model.one_former.nheads"
    for path, width in (
        ("model.one_former.hidden_dim", decoder.hidden_dim),
        ("model.sem_seg_head.convs_dim", head.convs_dim),
    ):
        if width % decoder.nheads:
            yield Finding((path, heads), f"{path} ({width}) must be a multiple of {heads} ({decoder.nheads})")
        elif width % 4:
            yield Finding((path,), f"found {width}, expected a multiple of 4: sines and cosines of rows and columns")
    if decoder.num_object_queries <= text.n_ctx:
        yield Finding(
            ("model.one_former.num_object_queries", "model.text_encoder.n_ctx"),
            f"num_object_queries ({decoder.num_object_queries}) must be above text_encoder.n_ctx ({text.n_ctx})",
        )
    if text.context_length != spec.dataset.max_seq_len:
        yield Finding(
            ("model.text_encoder.context_length", "dataset.max_seq_len"),
            f"text_encoder.context_length ({text.context_length}) must equal dataset.max_seq_len "
            f"({spec.dataset.max_seq_len})",
        )


def _levels(spec: Spec) -> Iterator[Finding]:
    head, name = spec.model.sem_seg_head, spec.model.backbone.type
    options = spec.model.backbone.sections.get(name)
    available = options.out_features if isinstance(options, SwinOptions | DinatOptions) else None
    inner, outer = "model.sem_seg_head.deformable_transformer_encoder_in_features", "model.sem_seg_head.in_features"
    deformable = head.pixel_decoder_name == "MSDeformAttnPixelDecoder"
    encoded = head.deformable_transformer_encoder_in_features if deformable else ()
    if missing := [level for level in encoded if level not in head.in_features]:
        yield Finding((inner, outer), f"{', '.join(missing)} is not in in_features ({', '.join(head.in_features)})")
    if available is not None and (missing := [level for level in head.in_features if level not in available]):
        other = f"model.backbone.{name}.out_features"
        yield Finding((outer, other), f"{', '.join(missing)} is not in {other} ({', '.join(available)})")


def _stages(spec: Spec) -> Iterator[Finding]:
    """Depths, heads and outputs of a hierarchical backbone count the same stages."""
    name = spec.model.backbone.type
    path, options = f"model.backbone.{name}", spec.model.backbone.sections.get(name)
    if not isinstance(options, SwinOptions | DinatOptions):
        return
    depths, heads = options.depths, options.num_heads
    if len(depths) != len(heads):
        yield Finding(
            (f"{path}.depths", f"{path}.num_heads"),
            f"depths has {len(depths)} stages, num_heads {len(heads)}; one entry per stage each",
        )
        return
    for stage, number in enumerate(heads):
        width = options.embed_dim * 2**stage
        if width % number:
            yield Finding(
                (f"{path}.num_heads", f"{path}.embed_dim"),
                f"stage {stage} has {width} channels, which is no multiple of its {number} heads",
            )
            break
    if max(options.out_indices) >= len(depths):
        yield Finding(
            (f"{path}.out_indices", f"{path}.out_features", f"{path}.depths"),
            f"stage {max(options.out_indices)} is handed out, but depths has {len(depths)} stages",
        )


def _neighborhoods(spec: Spec) -> Iterator[Finding]:
    """A neighbourhood has a middle, and every block of the dilated transformer a dilation."""
    name = spec.model.backbone.type
    path, options = f"model.backbone.{name}", spec.model.backbone.sections.get(name)
    if not isinstance(options, DinatOptions):
        return
    if options.kernel_size % 2 == 0:
        yield Finding((f"{path}.kernel_size",), f"found {options.kernel_size}, expected an odd number")
    dilated = [len(stage) for stage in options.dilations or ()]
    if options.dilations is not None and dilated != list(options.depths):
        yield Finding(
            (f"{path}.dilations", f"{path}.depths"),
            f"found lists of {dilated} numbers, expected one number per block: {list(options.depths)}",
        )


def _outputs(spec: Spec) -> Iterator[Finding]:
    for name, options in spec.model.backbone.sections.items():
        if not isinstance(options, SwinOptions | DinatOptions):
            continue
        expected = [f"res{index + 2}" for index in options.out_indices]
        if list(options.out_features) != expected:
            path = f"model.backbone.{name}"
            yield Finding(
                (f"{path}.out_indices", f"{path}.out_features"),
                f"out_indices {list(options.out_indices)} means {', '.join(expected)}, "
                f"but out_features is {', '.join(options.out_features)}; leave one of them out",
            )


def _model_files(spec: Spec) -> Iterator[Finding]:
    """A task runs one model file."""
    for task in ("evaluate", "inference"):
        checkpoint, engine = f"{task}.checkpoint", f"{task}.trt_engine"
        if value_at(spec, checkpoint) and value_at(spec, engine):
            yield Finding((engine, checkpoint), f"{checkpoint} and {engine} are both set; keep one of them")


def _checkpointer(spec: Spec) -> Iterator[Finding]:
    checkpointer, path = spec.train.checkpointer, "train.checkpointer"
    if checkpointer.replace_periodic and not checkpointer.enable_topk:
        yield Finding((f"{path}.replace_periodic", f"{path}.enable_topk"), "replace_periodic needs enable_topk: true")
    if checkpointer.enable_topk and not checkpointer.monitor:
        yield Finding((f"{path}.enable_topk", f"{path}.monitor"), "enable_topk needs the metric in monitor")


def _validation_times(spec: Spec) -> Iterator[Finding]:
    """Above 1 `val_check_interval` counts steps over epochs, which leaves nothing for `validation_interval` to say."""
    path, interval, epochs = "train.val_check_interval", spec.train.val_check_interval, spec.train.validation_interval
    if interval <= 1:
        return
    if interval != int(interval):
        yield Finding((path,), f"found {interval:g}, expected a part of an epoch up to 1 or a whole number of steps")
    elif epochs != 1:
        yield Finding(
            (path, "train.validation_interval"),
            f"val_check_interval ({interval:g} steps) counts over epochs; leave validation_interval ({epochs}) out",
        )


def _onnx_names(spec: Spec) -> Iterator[Finding]:
    name = spec.export.onnx_file
    if name and not name.lower().endswith((".onnx", ".etlt")):
        yield Finding(("export.onnx_file",), f'found "{name}", expected a name that ends with .onnx or .etlt')
    if name.lower().endswith(".etlt") and not spec.encryption_key:
        yield Finding(
            ("export.onnx_file", "encryption_key"),
            "a .etlt file is encrypted; set encryption_key or ONEFORMER_ENCRYPTION_KEY",
        )


def value_at(spec: Spec, path: str) -> Any:
    """Return the value at a dotted path."""
    value: Any = spec
    for name in path.split("."):
        value = getattr(value, name)
    return value


RELATIONS: tuple[Relation, ...] = (
    _order,
    _ascending,
    _task_probabilities,
    _decoder,
    _levels,
    _stages,
    _neighborhoods,
    _outputs,
    _model_files,
    _checkpointer,
    _validation_times,
    _onnx_names,
)
