"""Initialise a model for training with the weights of a complete model, or of a backbone only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from oneformer_model.adapters import files
from oneformer_model.backbones import Initialising
from oneformer_model.backbones.swin import SwinTransformer
from oneformer_model.network.oneformer import OneFormer
from oneformer_model.weights import checkpoint, sources
from oneformer_spec.errors import CheckpointError

_BACKBONE = "backbone."
_HEAD = "query_decoder.class_head."
_BIAS_TABLE = ".relative_position_bias"
_OUTPUT_NORM = re.compile(r"norms\.res\d\.(weight|bias)")  # no classifier has them


def start_from(model: OneFormer, path: str | Path, *, reinit_heads: bool, key: str | None = None) -> list[str]:
    """Copy the weights of a complete model into a model for training, all or none; return notes for the user.

    Args:
        model: A model that was built for training.
        path: Anything that `oneformer_model.load` reads.
        reinit_heads: Do not copy a class head with another number of classes, so that it keeps its fresh weights.
        key: Key of an encrypted file; None: the value of ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: Tensors are missing, unexpected or have the wrong shape; every one is listed.
    """
    weights = sources.read(path, key=key)
    state = checkpoint.fitting_texts(model, weights.state)
    own = model.state_dict()
    heads = [name for name in own if name.startswith(_HEAD) and name in state and state[name].shape != own[name].shape]
    notes = []
    if heads and reinit_heads:
        state = {**state, **{name: own[name] for name in heads}}
        was, now = len(weights.state[heads[0]]) - 1, len(own[heads[0]]) - 1
        notes.append(f"{path}: {was} classes became {now}: started anew: {', '.join(heads)}")
    try:
        checkpoint.load_state(model, state, path)
    except CheckpointError as error:
        hint = "; train.reinit_heads starts heads of another number of classes anew" if heads else ""
        raise CheckpointError(f"{error}{hint}") from None
    if not checkpoint.has_texts(weights.state):
        notes.append(f"{path}: holds no text branch; it starts anew")
    return notes


def load_backbone(backbone: nn.Module, path: str | Path | None, key: str | None = None) -> list[str]:
    """Copy weights into a backbone, all or none; return notes for the user.

    A backbone with its own `initialise` is initialised by that, with or without a file. For other backbones, the file
    may contain a classifier (Swin by its authors or from timm), a complete model, or tensors with the backbone's own
    names. Bias tables for another window size are resized.

    Raises:
        CheckpointError: Tensors are missing, unexpected or have the wrong shape; every one is listed.
    """
    if isinstance(backbone, Initialising):
        return backbone.initialise(None if path is None else str(path))
    if path is None:
        return []
    own = backbone.state_dict()
    state = _backbone_state(Path(path), own, key)
    notes = []
    if isinstance(backbone, SwinTransformer):
        fresh = [name for name in own if _OUTPUT_NORM.fullmatch(name) and name not in state]
        state |= {name: own[name] for name in fresh}
        if fresh:
            notes.append(f"{path}: has no norms of the outputs; they start anew")
        resized = {name: _resized(state[name], len(own[name])) for name in state if _has_other_window(name, state, own)}
        state |= resized
        if resized:
            notes.append(f"{path}: {len(resized)} tables of relative positions were resized to the window of the spec")
    checkpoint.load_state(backbone, state, path)
    return notes


def _backbone_state(path: Path, own: Mapping[str, Tensor], key: str | None) -> dict[str, Tensor]:
    if path.is_dir():
        return _inner(sources.read(path).state)
    tensors = files.tensors(path, key)
    if tensors.keys() & own.keys():
        return tensors
    if any(name.startswith(_BACKBONE) for name in tensors) and "query_decoder.query_embedding.weight" in tensors:
        return _inner(tensors)
    table = sources.table_of(tensors, path)
    state = table.to_ours(tensors)
    return state if table in sources.BACKBONES else _inner(state)


def _inner(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_BACKBONE): value for name, value in state.items() if name.startswith(_BACKBONE)}


def _has_other_window(name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    if not name.endswith(_BIAS_TABLE) or name not in own or state[name].dim() != 2:
        return False
    rows, heads = state[name].shape
    return rows != len(own[name]) and heads == own[name].shape[1] and isqrt(rows) ** 2 == rows


def _resized(table: Tensor, rows: int) -> Tensor:
    """Resize a bias table ((2 w - 1)^2, M) to another window size, bicubically, like an image with M channels."""
    square = table.float().T.unflatten(1, (isqrt(len(table)), -1))[None]  # (1, M, 2 w - 1, 2 w - 1)
    edge = isqrt(rows)
    return F.interpolate(square, size=(edge, edge), mode="bicubic", align_corners=False)[0].flatten(1).T
