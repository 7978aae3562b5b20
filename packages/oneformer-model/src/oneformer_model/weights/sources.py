"""Read the weights of a complete model from our own or foreign checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oneformer_model.adapters import files, huggingface_folder
from oneformer_model.adapters.huggingface import IN_MEMORY, ON_DISK
from oneformer_model.adapters.huggingface_folder import Preprocessing
from oneformer_model.adapters.original import SHI_LABS, SWIN_MICROSOFT, SWIN_TIMM, TAO
from oneformer_model.adapters.sizes import section_of, task_length
from oneformer_model.adapters.table import Table
from oneformer_model.network.oneformer import OneFormer
from oneformer_model.weights import checkpoint
from oneformer_spec.errors import CheckpointError, DataError, EncryptionKeyError
from oneformer_spec.labels import Labels
from oneformer_spec.schema import Spec
from oneformer_spec.schema.tree import plain
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.tasks import CONTEXT_LENGTH, TASKS, task_row

WHOLE_MODELS = (ON_DISK, IN_MEMORY, SHI_LABS, TAO)
BACKBONES = (SWIN_MICROSOFT, SWIN_TIMM)
OURS = "oneformer"


@dataclass(frozen=True)
class Weights:
    """The weights of a complete model, and what is needed to build it."""

    source: Path
    kind: str
    """Which project's format the source has, such as "oneformer"."""
    state: Mapping[str, Tensor]
    """The tensors under our names."""
    manifest: Manifest
    notes: tuple[str, ...] = ()
    """One line for each thing that the source does not contain, such as class names."""

    def model(self, *, training: bool = False) -> OneFormer:
        """Build the model, in eval mode; with `training`, including the text branch (freshly initialised if absent).

        Raises:
            CheckpointError: Tensors are missing, unexpected or have the wrong shape; every one is listed.
        """
        content = {checkpoint.STATE: self.state, checkpoint.MANIFEST: self.manifest.to_dict()}
        return checkpoint.restore(content, self.source, training=training)


def load(path: str | Path, *, training: bool = False, key: str | None = None) -> OneFormer:
    """Load a model, in eval mode.

    Args:
        path: A checkpoint of ours, a Hugging Face folder, or a file of SHI-Labs or TAO.
        training: Also build the text branch; if the source has none, it is freshly initialised.
        key: Key of an encrypted file; None: the value of ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: The source cannot be read, or its tensors do not form a model.
    """
    return read(path, key=key).model(training=training)


def read(path: str | Path, labels: Labels | None = None, *, key: str | None = None) -> Weights:
    """Read the weights of a complete model from our own or a foreign checkpoint.

    Args:
        path: As in `load`.
        labels: The classes, instead of those in the source.
        key: Key of an encrypted file; None: the value of ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: The source is missing, damaged, or not a complete model.
    """
    source = Path(path)
    if source.is_dir():
        return _folder(source, labels)
    if source.suffix == ".safetensors":
        return _file(source, files.tensors(source, key), labels)
    try:
        content = checkpoint.read(source, key)
    except EncryptionKeyError:
        raise
    except CheckpointError:  # not ours: try it as a foreign checkpoint, with better error messages
        return _file(source, files.tensors(source, key), labels)
    manifest = Manifest.from_dict(content[checkpoint.MANIFEST], source)
    return Weights(source, OURS, content[checkpoint.STATE], replace(manifest, labels=labels or manifest.labels))


def _folder(source: Path, labels: Labels | None) -> Weights:
    folder = huggingface_folder.read(source)
    table = table_of(folder.tensors, source)
    if table not in (ON_DISK, IN_MEMORY):
        raise CheckpointError(f"{source}: its config is Hugging Face's, but its tensors have the names of {table.kind}")
    state = table.to_ours(folder.tensors)
    notes: list[str] = []
    if labels is None:
        labels = _labels(folder.names, folder.model["sem_seg_head"]["num_classes"], folder.preprocessing, source)
        if folder.names is None:
            notes.append(f"{source}: contains no class names; set them with --label-map")
        elif folder.preprocessing.things is None:
            notes.append(f"{source}: does not distinguish things from stuff: all classes are things; see --label-map")
    manifest = _manifest(folder.model, labels, task_length(state) or CONTEXT_LENGTH, folder.preprocessing)
    return Weights(source, table.kind, state, manifest, tuple(notes))


def _file(source: Path, tensors: Mapping[str, Tensor], labels: Labels | None) -> Weights:
    if source.suffix == ".safetensors" and (source.parent / huggingface_folder.CONFIG).exists():
        return _folder(source.parent, labels)
    table = table_of(tensors, source)
    if table in BACKBONES:
        raise CheckpointError(
            f"{source}: contains only a backbone ({table.kind}); use it as model.backbone.pretrained_weights"
        )
    state = table.to_ours(tensors)
    if not any(name.startswith("backbone.stages.") for name in state):
        raise CheckpointError(
            f"{source}: its backbone is not a Swin Transformer, the only one supported in {table.kind} files"
        )
    section = section_of(state)
    if "text_branch.encoder.token_embedding.weight" in state and "text_branch.logit_scale" not in state:
        # The original stores the temperature in its criterion, which is not part of published files.
        scale = math.log(1 / section.one_former.contrastive_temperature)
        state["text_branch.logit_scale"] = torch.tensor(scale)
    notes: tuple[str, ...] = ()
    if labels is None:
        labels = _labels(None, section.sem_seg_head.num_classes, Preprocessing(), source)
        notes = (f"{source}: contains no class names; set them with --label-map",)
    manifest = _manifest(plain(section), labels, task_length(state) or CONTEXT_LENGTH, Preprocessing())
    return Weights(source, table.kind, state, manifest, notes)


def table_of(tensors: Mapping[str, Tensor], source: object) -> Table:
    """Recognise the naming scheme of tensors.

    Raises:
        CheckpointError: No known scheme matches.
    """
    for table in (*WHOLE_MODELS, *BACKBONES):
        if table.marker in tensors:
            return table
    examples = ", ".join(list(tensors)[:3])
    supported = ", ".join(dict.fromkeys(table.kind for table in (*WHOLE_MODELS, *BACKBONES)))
    raise CheckpointError(f"{source}: its tensor names ({examples}, …) match no supported format: {supported}")


def _labels(names: list[str] | None, count: int, preprocessing: Preprocessing, source: object) -> Labels:
    things = preprocessing.things
    rows = [
        {
            "id": index + 1,
            "name": names[index] if names else f"class {index + 1}",
            "isthing": int(things is None or index in things),
        }
        for index in range(count)
    ]
    try:
        return Labels.parse(rows, source=f"{source}: id2label")
    except DataError as error:
        raise CheckpointError(f"{error}; set the classes with --label-map") from None


def _manifest(model: dict[str, Any], labels: Labels, length: int, preprocessing: Preprocessing) -> Manifest:
    producer = {"oneformer-model": version("oneformer-model")}
    manifest = Manifest.from_spec(Spec(), labels, producer)
    return replace(
        manifest,
        model=model,
        mean=preprocessing.mean or manifest.mean,
        std=preprocessing.std or manifest.std,
        size=preprocessing.size or manifest.size,
        task_tokens={task: task_row(task, length) for task in TASKS},
    )
