"""A stored sample becomes what the reader of its format makes of the same files; the code is that reader's.

The JSON of a sample is a document of its format about one picture: `images` and `annotations` for COCO, an object with
`img` and `segm` for semantic masks, which may lack it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from oneformer_data.formats import coco_instance, coco_panoptic, semantic_jsonl
from oneformer_data.opening.documents import parse_json
from oneformer_data.sample import Sample
from oneformer_data.shards.members import Stored
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import Content
from oneformer_spec.labels import Labels
from oneformer_spec.tasks import TASKS, Task

_LARGEST_JSON = 64 << 20  # bytes; parsed it takes about ten times as much memory

Record = TypeVar("Record")


def tasks(type: str, labels: Labels) -> tuple[Task, ...]:
    """Return the tasks that a format has targets for."""
    every: Mapping[str, tuple[Task, ...]] = {
        "coco_panoptic": TASKS,
        "coco_instance": coco_instance.TASKS,
        "semantic_jsonl": semantic_jsonl.tasks(labels),
    }
    return every[type]


def decode(stored: Stored, labels: Labels) -> Sample:
    """Decode a sample.

    Raises:
        DataError: A file is damaged, or they disagree.
    """
    return _DECODERS[stored.type](stored, labels)


def _panoptic(stored: Stored, labels: Labels) -> Sample:
    document, path = _document(stored.annotation)
    record = _only(coco_panoptic.records_in(document, path, labels), path)
    return coco_panoptic.decode(record, stored.picture, _there(stored.mask), source=path)


def _instance(stored: Stored, labels: Labels) -> Sample:
    document, path = _document(stored.annotation)
    record = _only(coco_instance.records_in(document, path, labels), path)
    things = [label.isthing for label in labels]
    return coco_instance.decode(record, stored.picture, source=path, things=things)


def _semantic(stored: Stored, labels: Labels) -> Sample:
    mask = _there(stored.mask)
    if stored.annotation is None:
        document, path = {"img": stored.name, "segm": mask.name}, stored.picture.name
    else:
        document, path = _document(stored.annotation)
    record = semantic_jsonl.record_in(document, 1, path)
    if isinstance(record, str):
        raise DataError(record)
    return semantic_jsonl.decode(record, stored.picture, mask, where=path, labels=labels)


_DECODERS: Mapping[str, Callable[[Stored, Labels], Sample]] = {
    "coco_panoptic": _panoptic,
    "coco_instance": _instance,
    "semantic_jsonl": _semantic,
}


def _document(annotation: Content | None) -> tuple[Any, str]:
    """Return what the JSON of a sample holds, and its name."""
    content = _there(annotation)
    if len(content.data) > _LARGEST_JSON:
        raise DataError(f"{content}: has {len(content.data)} bytes, at most {_LARGEST_JSON} are read")
    return parse_json(content), content.name


def _there(content: Content | None) -> Content:
    """Return a file that the format of the sample has."""
    assert content is not None
    return content


def _only(records: Sequence[Record], path: str) -> Record:
    if len(records) != 1:
        raise DataError(f"{path}: is about {len(records)} images, expected one")
    return records[0]
