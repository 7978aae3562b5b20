"""Convert the weights of a model to our checkpoint, a Hugging Face folder, or a file of SHI-Labs."""

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


class WeightFormat(StrEnum):
    """The formats in which weights can be written."""

    ONEFORMER = "oneformer"
    HUGGING_FACE = "huggingface"
    SHI_LABS = "shi-labs"


@dataclass(frozen=True)
class ConversionReport:
    """The outcome of a conversion: `kind` is the source's format, `notes` are lines for the user."""

    kind: str
    format: WeightFormat
    num_tensors: int
    num_classes: int
    has_texts: bool
    notes: tuple[str, ...]


def convert(
    source: Path,
    target: Path,
    *,
    to: WeightFormat | None = None,
    label_map: Path | None = None,
    inference: bool = False,
    force: bool = False,
    encrypt: bool = False,
) -> ConversionReport:
    """Write the weights of `source` in another format.

    Args:
        source: Anything that `oneformer_model.load` reads.
        target: A folder for Hugging Face, else a file.
        to: The format; None: chosen by the target's suffix (a folder or no suffix means Hugging Face).
        label_map: A label map that replaces the class names in the source.
        inference: Leave out the text branch, which only training needs.
        force: Replace existing files.
        encrypt: Encrypt the checkpoint with ONEFORMER_ENCRYPTION_KEY; an encrypted source is read with the same key.

    Raises:
        UsageError: The target exists or does not fit the format, or the key for encryption is missing.
        CheckpointError: The source cannot be read, or its tensors do not fit its sizes.
        DataError: The label map cannot be read.
        OneFormerError: The target cannot be written, or the format does not support this network.
    """
    chosen = to or _format_of(target)
    _check_target(target, chosen, force=force)
    key = _key(chosen) if encrypt else None
    labels = Labels.read(label_map) if label_map is not None else None
    weights = sources.read(source, labels)
    section = checkpoint.model_section(weights.manifest)
    if len(weights.manifest.labels) != section.sem_seg_head.num_classes:
        raise SpecError(
            f"{label_map or source}: names {len(weights.manifest.labels)} classes, "
            f"but {source} has {section.sem_seg_head.num_classes}"
        )
    has_texts = not inference and checkpoint.has_texts(weights.state)
    state = weights.model(training=has_texts).state_dict()
    try:
        _write(target, replace(weights, state=state), chosen, key)
    except OSError as error:
        raise OneFormerError(f"{target}: cannot be written: {error.strerror or error}") from None
    notes = weights.notes
    if is_encrypted(source) and not encrypt:
        notes += (f"{target}: is not encrypted, although {source} is; use --encrypt to encrypt it",)
    return ConversionReport(weights.kind, chosen, len(state), len(weights.manifest.labels), has_texts, notes)


def _format_of(target: Path) -> WeightFormat:
    suffixes = {".pth": WeightFormat.ONEFORMER, ".pkl": WeightFormat.SHI_LABS}
    if target.is_dir() or not target.suffix:
        return WeightFormat.HUGGING_FACE
    if target.suffix not in suffixes:
        raise UsageError(
            f"{target}: no format has the suffix {target.suffix}; "
            f"use a folder, {' or '.join(suffixes)}, or --to {', '.join(WeightFormat)}"
        )
    return suffixes[target.suffix]


def _key(chosen: WeightFormat) -> str:
    """Return the key with which to encrypt a checkpoint."""
    key = key_of_environment()
    if chosen is not WeightFormat.ONEFORMER:
        raise UsageError(f"--encrypt: {chosen} weights cannot be encrypted; only checkpoints (.pth) can")
    if key is None:
        raise UsageError(f"--encrypt: set the key in {KEY_VARIABLE}")
    check_installed()
    return key


def _check_target(target: Path, chosen: WeightFormat, *, force: bool) -> None:
    is_folder = chosen is WeightFormat.HUGGING_FACE
    if target.exists() and target.is_dir() != is_folder:
        found, wanted = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise UsageError(f"{target}: is {found}; {chosen} weights are {wanted}")
    taken = any(target.iterdir()) if is_folder and target.exists() else target.exists()
    if taken and not force:
        raise UsageError(f"{target}: exists; replace it with --force, or name another target")


def _write(target: Path, weights: sources.Weights, chosen: WeightFormat, key: str | None) -> None:
    if chosen is WeightFormat.HUGGING_FACE:
        section = checkpoint.model_section(weights.manifest)
        texts = checkpoint.has_texts(weights.state)
        huggingface_folder.write(target, weights.state, section, weights.manifest, texts=texts)
    elif chosen is WeightFormat.ONEFORMER:
        checkpoint.save(target, state_dict=weights.state, manifest=weights.manifest, key=key)
    else:
        write_atomically(target, _shi_labs(weights.state, as_arrays=target.suffix == ".pkl"))


def _shi_labs(state: Mapping[str, Tensor], *, as_arrays: bool) -> Callable[[BinaryIO], None]:
    """Return a function that writes detectron2's format: arrays in a `.pkl` file, tensors in any other file."""
    tensors = SHI_LABS.to_theirs(state)
    if as_arrays:
        arrays = {name: value.numpy() for name, value in tensors.items()}
        return lambda file: pickle.dump({"model": arrays, "__author__": "oneformer"}, file)
    return lambda file: torch.save({"model": tensors}, file)
