"""From spec files and overrides to a checked Spec, and back to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.files.encryption import KEY_VARIABLE, key_of_environment
from oneformer_spec.loading.aliases import leave_out_awq, read_aliases
from oneformer_spec.loading.derived import TASKS_WITH_DEVICES, derived
from oneformer_spec.loading.dotted import get, has, put
from oneformer_spec.loading.layers import Layer, merge, read_file
from oneformer_spec.loading.overrides import SECRET, read_overrides
from oneformer_spec.loading.plugin_names import check_plugin_names, leave_out_unread_keys
from oneformer_spec.loading.problems import Problems
from oneformer_spec.loading.relations import RELATIONS, check_relations
from oneformer_spec.loading.task_files import file_relations, num_gpus_here
from oneformer_spec.loading.validation import check_keys, check_values
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.tree import build, leaves, plain, spec_tree

_DEFORMABLE = {
    "model.sem_seg_head.deformable_transformer_encoder_in_features": "deformable encoder",
    "model.precise_msda": "deformable attention",
}
PARTS_LEFT_OUT = {
    "BasePixelDecoder": {"model.sem_seg_head.transformer_enc_layers": "encoder", **_DEFORMABLE},
    "TransformerEncoderPixelDecoder": _DEFORMABLE,
}
"""Fields of parts that a pixel decoder does not have, and the name of the part."""


@dataclass(frozen=True)
class Loaded:
    """A checked spec, and what was read otherwise than written or has no effect."""

    spec: Spec
    notes: tuple[str, ...]


def load_spec(files: Sequence[str | Path], overrides: Sequence[str] = (), task: str | None = None) -> Loaded:
    """Read spec files, later ones over earlier ones, then `path=value` overrides; with a task, check what it needs.

    Raises:
        SpecError: Something is wrong; all problems are reported at once, each with its place.
    """
    problems = Problems()
    notes: list[str] = []
    written = _written(files, overrides, task, problems, notes)
    leave_out_unread_keys(written, task, notes)
    broken = check_values(written, problems, notes)
    broken |= check_plugin_names(written, task, problems, notes)
    if problems.unreadable:
        raise SpecError(problems.lines())
    _read_key(written, problems)
    spec: Spec = build(spec_tree(), derived(written.data, notes))
    check_relations((*RELATIONS, *file_relations(task)), spec, written, broken, problems)
    _check_milestones(spec, written, problems)
    if lines := problems.lines():
        raise SpecError(lines)
    notes += _notes(spec, written, task)
    unique = tuple(dict.fromkeys(notes))
    set_by_user = frozenset(path for path in leaves() if has(written.data, path))
    return Loaded(replace(spec, notes=unique, written=set_by_user), unique)


def to_dict(spec: Spec) -> dict[str, Any]:
    """Return a spec as nested dicts and lists by canonical paths, nulls included."""
    nested: dict[str, Any] = plain(spec)
    return nested


def _written(
    files: Sequence[str | Path], overrides: Sequence[str], task: str | None, problems: Problems, notes: list[str]
) -> Layer:
    """Return all layers as one, in canonical paths; a file that cannot be read does not hide the others' problems."""
    layers = []
    for number, file in enumerate(files):
        try:
            layers.append(read_file(Path(file), number, problems))
        except SpecError as error:
            problems.unreadable.extend(error.problems)
    for layer in layers if task != "quantize" else ():
        leave_out_awq(layer, notes)
    layers.append(read_overrides(overrides, len(files), problems))
    whole = Layer()
    for layer in layers:
        read_aliases(layer, notes, problems)
        check_keys(layer, problems, notes)
        merge(whole, layer)
    return whole


def _read_key(written: Layer, problems: Problems) -> None:
    """Take the key from the environment where the spec has none; a resolved spec says that there was one."""
    key = written.data.get("encryption_key")
    if key == "":
        problems.add("encryption_key: is empty; give a key, or leave it out", written.place(("encryption_key",)))
    if key not in (None, SECRET):
        return
    if variable := key_of_environment():
        put(written.data, "encryption_key", variable)
    elif key == SECRET:
        problems.add(
            f"encryption_key: was set when this file was written and is not in it; set {KEY_VARIABLE}, "
            "or give encryption_key again",
            written.place(("encryption_key",)),
        )


def _check_milestones(spec: Spec, written: Layer, problems: Problems) -> None:
    steps, milestones = "train.optim.steps", "train.optim.milestones"
    if spec.train.optim.steps is not None and has(written.data, milestones):
        problems.add(f"{steps}: {milestones} is set too; keep one of them", written.place(tuple(steps.split("."))))


def _notes(spec: Spec, written: Layer, task: str | None) -> list[str]:
    found = [
        f"{path} has no effect: {leaf.option.no_effect}"
        for path, leaf in leaves().items()
        if leaf.option.no_effect and has(written.data, path)
    ]
    found += _unused_backbones(spec, written)
    kind = spec.model.sem_seg_head.pixel_decoder_name
    found += [
        f"{path} has no effect: {kind} has no {part}"
        for path, part in PARTS_LEFT_OUT.get(kind, {}).items()
        if has(written.data, path)
    ]
    for name in TASKS_WITH_DEVICES if task is None else {task} & set(TASKS_WITH_DEVICES):
        wanted, here = getattr(spec, name).num_gpus, num_gpus_here()
        if wanted > max(here, 1):
            instead = "" if here else "; as many CPU processes take their place"
            found.append(f"{name}.num_gpus: {wanted} GPUs are asked for, this machine shows {here}{instead}")
    return found


def _unused_backbones(spec: Spec, written: Layer) -> list[str]:
    """Name the options that belong to another backbone than the chosen one; a default says nothing."""
    chosen, data = spec.model.backbone.type, to_dict(spec)
    return [
        f"{path} has no effect: model.backbone.type is {chosen}"
        for path, leaf in leaves().items()
        for name in spec.model.backbone.sections
        if path.startswith(f"model.backbone.{name}.")
        and name != chosen
        and has(written.data, path)
        and get(data, path) != leaf.default
    ]
