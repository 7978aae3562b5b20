"""The picture files that annotations name, without decoding any; what is damaged is passed over."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

from oneformer_data.documents import listed, read_json
from oneformer_data.folders import Folder
from oneformer_data.sources import Source, source_type
from oneformer_spec.errors import DataError


def picture_files(source: Source) -> list[Path]:
    """Return the pictures of a data set that exist, in its order; none where no reader here tells their names."""
    try:
        names = _NAMES.get(source_type(source), _no_names)(source)
    except DataError:
        return []  # a problem that the check of the annotations tells of
    root = Folder(source.images or Path(source.annotations).parent, allow_outside=source.allow_outside_root)
    unique = dict.fromkeys(name for name in names if isinstance(name, str) and name)
    return [root.path(name) for name in unique if root.problem(name) is None]


def shared_pictures(splits: Mapping[str, Sequence[Source]], files: Mapping[Source, Sequence[Path]]) -> Iterator[str]:
    """Yield a line per picture that two splits share, as the same file or as a file of the same content.

    Two splits that name the same annotations share them on purpose: one line where one of them is `train`, none for
    `val` and `test`.
    """
    for (first, its), (second, others) in combinations(splits.items(), 2):
        same = {source.annotations for source in its} & {source.annotations for source in others}
        if "train" in (first, second):
            yield from (f"{path}: is the data of dataset.{first} and of dataset.{second}" for path in sorted(same))
        mine = [path for source in its if source.annotations not in same for path in files[source]]
        theirs = [path for source in others if source.annotations not in same for path in files[source]]
        for path, twin in _twins(mine, theirs):
            if path == twin:
                yield f"{path}: is in dataset.{first} and in dataset.{second}"
            else:
                yield f"{twin}: in dataset.{second} has the same content as {path} in dataset.{first}"


def _twins(mine: Sequence[Path], theirs: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield the pairs of files with one content; only files whose length in bytes occurs on both sides are read."""
    known = dict.fromkeys(mine)
    by_length: dict[int, list[Path]] = defaultdict(list)
    for path in known:
        by_length[path.stat().st_size].append(path)
    digests: dict[int, dict[bytes, Path]] = {}
    for twin in dict.fromkeys(theirs):
        length = twin.stat().st_size
        if twin in known:
            yield twin, twin
        elif length in by_length:
            if length not in digests:
                digests[length] = {_digest(path): path for path in by_length[length]}
            original = digests[length].get(_digest(twin))
            if original is not None:
                yield original, twin


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _panoptic_names(source: Source) -> list[object]:
    """Pictures without an annotation belong to a longer list, of which this file annotates a part."""
    document = read_json(source.annotations)
    annotated = {repr(row.get("image_id")) for row in listed(document, "annotations", source.annotations)}
    rows = listed(document, "images", source.annotations)
    return [row.get("file_name") for row in rows if repr(row.get("id")) in annotated]


def _instance_names(source: Source) -> list[object]:
    return [row.get("file_name") for row in listed(read_json(source.annotations), "images", source.annotations)]


def _line_names(source: Source) -> list[object]:
    names: list[object] = []
    with suppress(OSError, UnicodeDecodeError), open(source.annotations, encoding="utf-8-sig") as lines:
        for line in lines:
            with suppress(ValueError, RecursionError, AttributeError):  # no JSON, or no object
                names.append(json.loads(line).get("img"))
    return names


def _no_names(source: Source) -> list[object]:
    return []


_NAMES: Mapping[str, Callable[[Source], list[Any]]] = {
    "coco_panoptic": _panoptic_names,
    "coco_instance": _instance_names,
    "semantic_jsonl": _line_names,
}
