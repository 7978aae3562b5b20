"""What older specs hold: other paths and values are read as the canonical ones, unavailable features left out."""

from __future__ import annotations

from typing import Any

from oneformer_spec.loading.dotted import get, has, put, remove
from oneformer_spec.loading.layers import Layer
from oneformer_spec.loading.problems import Problems, shown
from oneformer_spec.schema.deploy import AWQ
from oneformer_spec.schema.tree import Leaf, leaves

ALIASES = {
    "model.backbone.name": "model.backbone.type",
    "model.mode": "inference.mode",
    "model.object_mask_threshold": "model.test.object_mask_threshold",
    "model.overlap_threshold": "model.test.overlap_threshold",
    "model.test_topk_per_image": "model.test.test_topk_per_image",
    "train.pretrained_model": "train.pretrained_model_path",
    "train.pretrained_backbone": "model.backbone.pretrained_weights",
    "train.clip_gradients.clip_type": "train.clip_grad_type",
    "train.clip_gradients.clip_value": "train.clip_grad_norm",
    "train.clip_gradients.norm_type": "train.clip_grad_norm_type",
}
ALGORITHM = "quantize.algorithm"
CLIPPING = "train.clip_gradients"
CLIPPING_ENABLED = "train.clip_gradients.enabled"
_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}


def read_aliases(layer: Layer, notes: list[str], problems: Problems) -> None:
    """Move every alias of a layer to its canonical path; two spellings that disagree are a problem naming both."""
    _read_enabled(layer, notes, problems)
    for alias, path in ALIASES.items():
        if has(layer.data, alias):
            _move(layer, alias, path, remove(layer.data, alias), notes, problems)
    if has(layer.data, CLIPPING):
        _check_clipping(layer, remove(layer.data, CLIPPING), problems)


def leave_out_awq(layer: Layer, notes: list[str]) -> None:
    """Drop an AWQ algorithm that a file names, with a note: to all tasks but `quantize` it makes no difference."""
    if has(layer.data, ALGORITHM) and str(get(layer.data, ALGORITHM)).lower() in AWQ:
        notes.append(f"{ALGORITHM}: {remove(layer.data, ALGORITHM)} is ignored: AWQ is not available yet")


def canonical_value(leaf: Leaf, value: Any) -> Any:
    """Return a value in its canonical spelling: enumerations regardless of case, older names, yes and no."""
    if isinstance(value, list):
        return [canonical_value(leaf, item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    spelled = str(value).lower()
    if leaf.shape.kinds == ("boolean",):
        return _BOOLEANS.get(spelled, value) if isinstance(value, str) else value
    words = {word.lower(): word for word in leaf.option.choices} if isinstance(value, str) else {}
    older = {spelling.lower(): word for spelling, word in leaf.option.spellings.items()}
    return words.get(spelled, older.get(spelled, value))


def _check_clipping(layer: Layer, rest: Any, problems: Problems) -> None:
    """Report what is left of the section once its aliases are moved."""
    path = tuple(CLIPPING.split("."))
    known = [alias.rpartition(".")[2] for alias in (CLIPPING_ENABLED, *ALIASES) if alias.startswith(CLIPPING)]
    if isinstance(rest, dict):
        for key in rest:
            problems.add(
                f"{CLIPPING}.{key}: unknown field; {CLIPPING} has {', '.join(known)}", layer.key_place((*path, key))
            )
    elif rest is not None:
        problems.add(f"{CLIPPING}: found {shown(rest)}, expected the fields {', '.join(known)}", layer.place(path))


def _read_enabled(layer: Layer, notes: list[str], problems: Problems) -> None:
    if not has(layer.data, CLIPPING_ENABLED):
        return
    value = remove(layer.data, CLIPPING_ENABLED)
    place = layer.place(tuple(CLIPPING_ENABLED.split(".")))
    if not isinstance(value, bool):
        problems.add(f"{CLIPPING_ENABLED}: found {shown(value)}, expected true or false", place)
        return
    kinds = [path for path in (f"{CLIPPING}.clip_type", "train.clip_grad_type") if has(layer.data, path)]
    said = {path: str(get(layer.data, path)).lower() for path in kinds}
    if value:
        for path in kinds:
            if said[path] == "none":
                problems.add(f"{CLIPPING_ENABLED}: found true, but {path} says none; keep one of them", place)
        return
    for path in kinds:
        if path == "train.clip_grad_type" and said[path] != "none":
            problems.add(f"{CLIPPING_ENABLED}: found false, but {path} says {said[path]}; keep one of them", place)
        remove(layer.data, path)
    put(layer.data, "train.clip_grad_type", "none")
    layer.move(tuple(CLIPPING_ENABLED.split(".")), ("train", "clip_grad_type"))
    layer.written["train.clip_grad_type"] = CLIPPING_ENABLED
    notes.append(f"{CLIPPING_ENABLED}: false is read as train.clip_grad_type: none")


def _move(layer: Layer, alias: str, path: str, value: Any, notes: list[str], problems: Problems) -> None:
    old, new = tuple(alias.split(".")), tuple(path.split("."))
    leaf = leaves()[path]
    notes.append(f"{alias} is read as {path}")
    if has(layer.data, path):
        other = get(layer.data, path)
        if value is None or canonical_value(leaf, value) == canonical_value(leaf, other):
            return
        if other is not None:
            at = layer.place(new)
            beside = f" ({at.text})" if at else ""
            message = f"{alias}: found {shown(value)}, but {path}{beside} says {shown(other)}; keep one of them"
            problems.add(message, layer.place(old))
            return
    put(layer.data, path, value)
    layer.move(old, new)
    layer.written[path] = alias
