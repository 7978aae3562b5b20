"""Read and write Hugging Face folders: `config.json`, `preprocessor_config.json`, and weights (one file or shards)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from oneformer_model.adapters import files
from oneformer_model.adapters.huggingface import ON_DISK
from oneformer_model.adapters.huggingface_config import class_names, config_of, model_data
from oneformer_spec.errors import CheckpointError, OneFormerError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.schema import ModelSection
from oneformer_spec.segmentation.frame import ShortestEdge
from oneformer_spec.segmentation.manifest import Manifest

CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
_WEIGHTS = (WEIGHTS, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_LEVELS = 255.0  # mean and deviation in a folder are relative to this pixel value


@dataclass(frozen=True)
class Preprocessing:
    """A folder's settings for the input, in pixel values, and its thing classes; None for what it does not contain."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: ShortestEdge | None = None
    things: frozenset[int] | None = None


@dataclass(frozen=True)
class Folder:
    """The content of a folder: tensors under Hugging Face's names, and the spec's section `model` as plain data."""

    tensors: dict[str, Tensor]
    model: dict[str, Any]
    names: list[str] | None
    preprocessing: Preprocessing


def read(path: Path) -> Folder:
    """Read a folder.

    Raises:
        CheckpointError: A file is missing, damaged, or says what cannot be.
    """
    if not (path / CONFIG).exists():
        raise CheckpointError(f"{path}: is a folder without {CONFIG}; expected a Hugging Face folder")
    config = _object(path / CONFIG)
    return Folder(_tensors(path), model_data(config, path / CONFIG), class_names(config), _preprocessing(path))


def write(path: Path, state: Mapping[str, Tensor], section: ModelSection, manifest: Manifest, *, texts: bool) -> None:
    """Write a folder that `from_pretrained` reads; the config comes last, so a folder that has one is whole.

    `texts` tells whether `state` holds the text branch.

    Raises:
        OneFormerError: Hugging Face's OneFormer has no such network.
    """
    task_length = len(next(iter(manifest.task_tokens.values())))
    try:
        config = config_of(section, manifest.labels, training=texts, task_length=task_length)
    except ValueError as error:
        raise OneFormerError(f"{path}: not written: {error}") from None
    weight = torch.ones(len(manifest.labels) + 1)
    weight[-1] = section.one_former.no_object_weight
    scale = torch.tensor(math.log(1 / section.one_former.contrastive_temperature))
    tensors = ON_DISK.to_theirs({"text_branch.logit_scale": scale, **state}) | {"criterion.empty_weight": weight}
    content = save({name: value.contiguous() for name, value in tensors.items()}, metadata={"format": "pt"})
    write_atomically(path / WEIGHTS, content)
    write_atomically(path / PREPROCESSOR, json.dumps(_preprocessor(manifest), indent=2))
    write_atomically(path / CONFIG, json.dumps(config, indent=2))


def _tensors(path: Path) -> dict[str, Tensor]:
    name = next((name for name in _WEIGHTS if (path / name).exists()), None)
    if name is None:
        raise CheckpointError(f"{path}: contains no weights; expected one of {', '.join(_WEIGHTS)}")
    if not name.endswith(".json"):
        return files.tensors(path / name)
    shards = _object(path / name).get("weight_map")
    if not isinstance(shards, Mapping) or not all(isinstance(shard, str) for shard in shards.values()):
        raise CheckpointError(f"{path / name}: has no weight_map from tensors to files")
    found: dict[str, Tensor] = {}
    for shard in sorted(set(shards.values())):
        if Path(shard).name != shard:
            raise CheckpointError(f"{path / name}: {shard!r} is not the name of a file in this folder")
        found |= files.tensors(path / shard)
    missing = sorted(set(shards) - set(found))
    if missing:
        raise CheckpointError(f"{path / name}: its files lack {', '.join(missing)}")
    return found


def _preprocessing(path: Path) -> Preprocessing:
    file = path / PREPROCESSOR
    if not file.exists():
        return Preprocessing()
    data = _object(file)
    size, metadata = data.get("size"), data.get("metadata")
    things = metadata.get("thing_ids") if isinstance(metadata, Mapping) else None
    try:
        return Preprocessing(
            mean=_levels(data.get("image_mean")),
            std=_levels(data.get("image_std")),
            size=ShortestEdge(int(size["shortest_edge"]), int(size["longest_edge"]))
            if isinstance(size, Mapping) and {"shortest_edge", "longest_edge"} <= size.keys()
            else None,
            things=frozenset(int(index) for index in things) if things is not None else None,
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}") from None


def _levels(values: Any) -> tuple[float, ...] | None:
    return tuple(float(value) * _LEVELS for value in values) if values is not None else None


def _preprocessor(manifest: Manifest) -> dict[str, Any]:
    data: dict[str, Any] = {
        "image_processor_type": "OneFormerImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": [value / _LEVELS for value in manifest.mean],
        "image_std": [value / _LEVELS for value in manifest.std],
        "num_labels": len(manifest.labels),
        "metadata": {
            **{str(index): name for index, name in enumerate(manifest.labels.names)},
            "class_names": list(manifest.labels.names),
            "thing_ids": [index for index, label in enumerate(manifest.labels) if label.isthing],
        },
    }
    if isinstance(manifest.size, ShortestEdge):
        data["size"] = {"shortest_edge": manifest.size.shortest, "longest_edge": manifest.size.longest}
    return data


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data
