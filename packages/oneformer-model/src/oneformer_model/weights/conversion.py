"""Weights out: a model of any source, written as our checkpoint, a Hugging Face folder, or a file of SHI-Labs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from oneformer_model.adapters import huggingface_folder
from oneformer_model.adapters.original import SHI_LABS
from oneformer_model.weights import checkpoint, sources
from oneformer_spec.errors import OneFormerError, SpecError, UsageError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import KEY_VARIABLE, check_installed, is_encrypted, key_of_environment
from oneformer_spec.labels import Labels


class Format(StrEnum):
    """What can be written."""

    ONEFORMER = "oneformer"
    HUGGING_FACE = "huggingface"
    SHI_LABS = "shi-labs"


@dataclass(frozen=True)
class Report:
    """What a conversion found and wrote; `notes` says what the source does not tell."""

    kind: str
    format: Format
    num_tensors: int
    num_classes: int
    has_texts: bool
    notes: tuple[str, ...]


def convert(
    source: Path,
    target: Path,
    *,
    to: Format | None = None,
    label_map: Path | None = None,
    inference: bool = False,
    force: bool = False,
    encrypt: bool = False,
) -> Report:
    """Write the weights of `source` in another form.

    Args:
        source: Anything that `oneformer_model.load` reads.
        target: A folder for Hugging Face, else a file.
        to: The form; None follows from the target: a folder, or a name without suffix, is Hugging Face's.
        label_map: Names the classes, instead of the source's own names.
        inference: Leave the text branch out, which training alone needs.
        force: Replace what is there.
        encrypt: Encrypt the checkpoint, with ONEFORMER_ENCRYPTION_KEY; an encrypted source is read with the same key.

    Raises:
        UsageError: The target is there, or cannot be what is asked for; or there is no key to encrypt with.
        CheckpointError: The source cannot be read or does not fit its own sizes.
        DataError: The label map cannot be read.
        OneFormerError: The target cannot be written, or that form has no such network.
    """
    chosen = to or _format(target)
    _check_target(target, chosen, force=force)
    key = _key(chosen) if encrypt else None
    labels = Labels.read(label_map) if label_map is not None else None
    found = sources.read(source, labels)
    section = checkpoint.model_section(found.manifest)
    if len(found.manifest.labels) != section.sem_seg_head.num_classes:
        raise SpecError(
            f"{label_map or source}: names {len(found.manifest.labels)} classes, "
            f"{source} has {section.sem_seg_head.num_classes}"
        )
    has_texts = not inference and checkpoint.has_texts(found.state)
    state = found.model(training=has_texts).state_dict()
    try:
        _write(target, replace(found, state=state), chosen, key)
    except OSError as error:
        raise OneFormerError(f"{target}: cannot be written: {error.strerror or error}") from None
    notes = found.notes
    if is_encrypted(source) and not encrypt:
        notes += (f"{target}: is not encrypted, as {source} is; --encrypt would do that",)
    return Report(found.kind, chosen, len(state), len(found.manifest.labels), has_texts, notes)


def _format(target: Path) -> Format:
    suffixes = {".pth": Format.ONEFORMER, ".pkl": Format.SHI_LABS}
    if target.is_dir() or not target.suffix:
        return Format.HUGGING_FACE
    if target.suffix not in suffixes:
        raise UsageError(
            f"{target}: the suffix {target.suffix} does not tell what to write; "
            f"use a folder, {' or '.join(suffixes)}, or --to {', '.join(Format)}"
        )
    return suffixes[target.suffix]


def _key(chosen: Format) -> str:
    """Return the key that a checkpoint is to be encrypted with."""
    key = key_of_environment()
    if chosen is not Format.ONEFORMER:
        raise UsageError(f"--encrypt: {chosen} weights cannot be encrypted, a checkpoint (.pth) can")
    if key is None:
        raise UsageError(f"--encrypt: set the key in {KEY_VARIABLE}")
    check_installed()
    return key


def _check_target(target: Path, chosen: Format, *, force: bool) -> None:
    is_folder = chosen is Format.HUGGING_FACE
    if target.exists() and target.is_dir() != is_folder:
        found, wanted = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise UsageError(f"{target}: is {found}; {chosen} weights are {wanted}")
    taken = any(target.iterdir()) if is_folder and target.exists() else target.exists()
    if taken and not force:
        raise UsageError(f"{target}: exists; replace it with --force, or name another target")


def _write(target: Path, found: sources.Weights, chosen: Format, key: str | None) -> None:
    if chosen is Format.HUGGING_FACE:
        section = checkpoint.model_section(found.manifest)
        texts = checkpoint.has_texts(found.state)
        huggingface_folder.write(target, found.state, section, found.manifest, texts=texts)
    elif chosen is Format.ONEFORMER:
        checkpoint.save(target, state_dict=found.state, manifest=found.manifest, key=key)
    else:
        write_atomically(target, _shi_labs(found.state, as_arrays=target.suffix == ".pkl"))


def _shi_labs(state: Mapping[str, Tensor], *, as_arrays: bool) -> Callable[[BinaryIO], None]:
    """Return what writes a file of detectron2, which takes arrays from a `.pkl` and tensors from any other file."""
    tensors = SHI_LABS.to_theirs(state)
    if as_arrays:
        arrays = {name: value.numpy() for name, value in tensors.items()}
        return lambda file: pickle.dump({"model": arrays, "__author__": "oneformer"}, file)
    return lambda file: torch.save({"model": tensors}, file)
