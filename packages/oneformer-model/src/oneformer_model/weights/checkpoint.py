"""Read and write checkpoints: tensors, the manifest and other plain data in torch's zip format."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from oneformer_model.build import build
from oneformer_model.network.oneformer import OneFormer
from oneformer_model.weights import int8
from oneformer_spec.errors import CheckpointError, SpecError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import encrypted, open_decrypted
from oneformer_spec.schema import ModelSection
from oneformer_spec.schema.tree import Section, spec_tree
from oneformer_spec.schema.tree import build as build_section
from oneformer_spec.segmentation.manifest import Manifest

STATE, MANIFEST = "state_dict", "manifest"
_PLAIN = (str, bytes, bool, int, float, type(None), Tensor, torch.Size, torch.dtype)
_TEXT_BRANCH, _TEXT_ENCODER = "text_branch.", "text_branch.encoder."


def save(
    path: str | Path,
    *,
    state_dict: Mapping[str, Tensor],
    manifest: Manifest,
    extra: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> None:
    """Write a checkpoint atomically, encrypted if a key is given; `extra` adds further entries at the top level.

    Raises:
        TypeError: `extra` contains something that `read` would refuse.
        OSError: The file cannot be written, for instance because the disk is full; an existing file stays.
    """
    content = {STATE: dict(state_dict), MANIFEST: manifest.to_dict(), **(extra or {})}
    _check_plain(content, "checkpoint")
    write_atomically(path, encrypted(lambda file: _write(content, file), key))


def read(path: str | Path, key: str | None = None) -> dict[str, Any]:
    """Read a checkpoint, with tensors on the CPU and 8-bit weights as float32; nothing in the file is executed.

    Without `key`, an encrypted file is decrypted with ONEFORMER_ENCRYPTION_KEY.

    Raises:
        EncryptionKeyError: The file is encrypted, and the key is missing or wrong.
        CheckpointError: The file is missing, damaged, contains code, or is not a checkpoint of ours.
    """
    try:
        with open_decrypted(path, key) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about formats that are refused below
            _check_sums(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: does not exist") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder, not a checkpoint") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: refused: it is not a checkpoint, or it contains more than tensors and plain data"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError, zipfile.BadZipFile) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{path}: is damaged or not a checkpoint: {reason}") from None
    if not isinstance(content, dict) or not isinstance(content.get(STATE), dict) or MANIFEST not in content:
        raise CheckpointError(f"{path}: is not a oneformer checkpoint: it lacks {STATE!r} or {MANIFEST!r}")
    return content | {STATE: int8.restored(content[STATE], path)}


def restore(content: Mapping[str, Any], source: str | Path, *, training: bool = False) -> OneFormer:
    """Build the model of a checkpoint that `read` returned, in eval mode.

    `training` also builds the text branch; it keeps its fresh weights if the checkpoint has none.

    Raises:
        CheckpointError: The tensors do not fit the manifest.
    """
    manifest = Manifest.from_dict(content[MANIFEST], source)
    length = len(next(iter(manifest.task_tokens.values())))
    try:
        model = build(model_section(manifest), training=training, task_length=length)
    except (SpecError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        cure = manifest.cure("backbone", str(manifest.model.get("backbone", {}).get("type")))
        raise CheckpointError(f"{source}: its model cannot be built: {reason}{cure}") from error
    load_state(model, fitting_texts(model, content[STATE]), source)
    return model.eval()


def fitting_texts(model: OneFormer, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Make weights fit a model's text branch: drop it if the model has none, add the model's own if they lack it."""
    if model.text_branch is None:
        return {name: value for name, value in state.items() if not name.startswith(_TEXT_BRANCH)}
    if has_texts(state):
        return state
    own = {name: value for name, value in model.state_dict().items() if name.startswith(_TEXT_BRANCH)}
    return own | dict(state)


def has_texts(state: Mapping[str, Tensor]) -> bool:
    """Whether weights include the text branch (not just its temperature)."""
    return any(name.startswith(_TEXT_ENCODER) for name in state)


def model_section(manifest: Manifest) -> ModelSection:
    """Return the spec's section `model` stored in a manifest."""
    node = spec_tree().children["model"]
    assert isinstance(node, Section)
    section = build_section(node, manifest.model)
    assert isinstance(section, ModelSection)
    return section


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Copy tensors into a model, all or none.

    Raises:
        CheckpointError: Tensors are missing, unexpected or have the wrong shape; every one is listed.
    """
    own = model.state_dict()
    misshapen = [
        f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    listed = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "misshapen": misshapen,
    }
    problems = [f"{kind}: {', '.join(names)}" for kind, names in listed.items() if names]
    if problems:
        raise CheckpointError(f"{source}: its tensors do not fit the model; {'; '.join(problems)}")
    model.load_state_dict(state)


def _write(content: Mapping[str, Any], file: BinaryIO) -> None:
    """Write torch's zip format; on a write error, raise the OSError instead of torch's RuntimeError."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _check_sums(file: BinaryIO) -> None:
    """Verify the checksum of every record; torch writes these checksums but does not verify them.

    Raises:
        ValueError: A checksum does not match.
    """
    if zipfile.is_zipfile(file):
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} does not match")
    file.seek(0)


def _check_plain(value: object, path: str) -> None:
    """Raise TypeError if a value is neither a tensor nor plain data; `path` is its location for the message."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(key, f"a key of {path}")
            _check_plain(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{path}[{index}]")
    elif not isinstance(value, _PLAIN):
        raise TypeError(f"{path}: {type(value).__name__} cannot be stored in a checkpoint")
