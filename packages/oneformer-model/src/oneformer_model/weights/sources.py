"""Weights in: our checkpoints and those of others, from any of which a model can be built or training can start."""

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
    """A whole model: where it comes from, its tensors under our names, and what it knows about itself.

    `notes` says what the source does not tell.
    """

    source: Path
    kind: str
    state: Mapping[str, Tensor]
    manifest: Manifest
    notes: tuple[str, ...] = ()

    def model(self, *, training: bool = False) -> OneFormer:
        """Return the model in eval mode; `training` builds the text branch, which starts anew where there is none.

        Raises:
            CheckpointError: Tensors are missing, unexpected or misshapen; every one is listed.
        """
        content = {checkpoint.STATE: self.state, checkpoint.MANIFEST: self.manifest.to_dict()}
        return checkpoint.restore(content, self.source, training=training)


def load(path: str | Path, *, training: bool = False, key: str | None = None) -> OneFormer:
    """Return a model in eval mode; `training` builds and keeps the text branch.

    Args:
        path: A checkpoint of ours, a Hugging Face folder, or a file of SHI-Labs or TAO.
        training: A source that holds no text branch gives a fresh one.
        key: Of an encrypted file; None takes ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: It cannot be read, or its tensors do not fit each other.
    """
    return read(path, key=key).model(training=training)


def read(path: str | Path, labels: Labels | None = None, *, key: str | None = None) -> Weights:
    """Return the weights of a whole model, ours or others'; `labels` name the classes where the source does not.

    Without a key, ONEFORMER_ENCRYPTION_KEY is taken for an encrypted file.

    Raises:
        CheckpointError: They are missing, damaged, or hold no whole model.
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
    except CheckpointError:  # not ours: the reader of others' files says what it is, or what is wrong
        return _file(source, files.tensors(source, key), labels)
    manifest = Manifest.from_dict(content[checkpoint.MANIFEST], source)
    return Weights(source, OURS, content[checkpoint.STATE], replace(manifest, labels=labels or manifest.labels))


def _folder(source: Path, labels: Labels | None) -> Weights:
    folder = huggingface_folder.read(source)
    table = table_of(folder.tensors, source)
    if table not in (ON_DISK, IN_MEMORY):
        raise CheckpointError(f"{source}: its config is Hugging Face's, its tensors have the names of {table.kind}")
    state = table.to_ours(folder.tensors)
    notes: list[str] = []
    if labels is None:
        labels = _labels(folder.names, folder.model["sem_seg_head"]["num_classes"], folder.preprocessing, source)
        if folder.names is None:
            notes.append(f"{source}: names no classes; give them with --label-map")
        elif folder.preprocessing.things is None:
            notes.append(f"{source}: does not tell things from stuff: all classes are things; see --label-map")
    manifest = _manifest(folder.model, labels, task_length(state) or CONTEXT_LENGTH, folder.preprocessing)
    return Weights(source, table.kind, state, manifest, tuple(notes))


def _file(source: Path, tensors: Mapping[str, Tensor], labels: Labels | None) -> Weights:
    if source.suffix == ".safetensors" and (source.parent / huggingface_folder.CONFIG).exists():
        return _folder(source.parent, labels)
    table = table_of(tensors, source)
    if table in BACKBONES:
        raise CheckpointError(
            f"{source}: holds a backbone alone ({table.kind}); name it in model.backbone.pretrained_weights"
        )
    state = table.to_ours(tensors)
    if not any(name.startswith("backbone.stages.") for name in state):
        raise CheckpointError(f"{source}: its backbone is no Swin Transformer; {table.kind} files with one are read")
    section = section_of(state)
    if "text_branch.encoder.token_embedding.weight" in state and "text_branch.logit_scale" not in state:
        # The original keeps the temperature in its criterion, which published files do not hold.
        scale = math.log(1 / section.one_former.contrastive_temperature)
        state["text_branch.logit_scale"] = torch.tensor(scale)
    notes: tuple[str, ...] = ()
    if labels is None:
        labels = _labels(None, section.sem_seg_head.num_classes, Preprocessing(), source)
        notes = (f"{source}: names no classes; give them with --label-map",)
    manifest = _manifest(plain(section), labels, task_length(state) or CONTEXT_LENGTH, Preprocessing())
    return Weights(source, table.kind, state, manifest, notes)


def table_of(tensors: Mapping[str, Tensor], source: object) -> Table:
    """Return the naming scheme that tensors follow.

    Raises:
        CheckpointError: It is none that is known.
    """
    for table in (*WHOLE_MODELS, *BACKBONES):
        if table.marker in tensors:
            return table
    some = ", ".join(list(tensors)[:3])
    known = ", ".join(dict.fromkeys(table.kind for table in (*WHOLE_MODELS, *BACKBONES)))
    raise CheckpointError(f"{source}: its names ({some}, …) are of no known kind: {known}")


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
        raise CheckpointError(f"{error}; name the classes with --label-map") from None


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
