"""Write a data set as tar files with an index."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np

from oneformer_data.opening.sources import Source
from oneformer_data.shards.decoding import decode
from oneformer_data.shards.index import INDEX_NAME, LARGEST_SAMPLE, Index, Shard, file_format
from oneformer_data.shards.members import ANNOTATION, PICTURES, Stored
from oneformer_data.shards.originals import originals
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.labels import Labels

_END = bytes(2 * tarfile.BLOCKSIZE)


def write_shards(
    source: Source, labels: Labels, folder: Path, *, size: int, samples: int | None = None, seed: int | None = None
) -> Index:
    """Write a data set into a folder: shards of at most `size` bytes and `samples` samples, and their index.

    Images and masks are copied byte for byte, after each sample was decoded as a check. Samples keep their order, or
    are shuffled by `seed`. The same data gives the same bytes.

    Raises:
        SpecError: The data set cannot be opened.
        DataError: The data set has a problem; the first one is reported.
    """
    data = originals(source, labels)
    order = range(data.count) if seed is None else np.random.default_rng(seed).permutation(data.count).tolist()
    progress = Progress(f"shard {source.annotations}", "images")

    def entries() -> Iterator[bytes]:
        for position, number in enumerate(order):
            stored = data.stored(number)
            decode(stored, labels, source)
            yield _entry(f"{position:09d}", stored)
            progress(position + 1, data.count)

    folder.mkdir(parents=True, exist_ok=True)
    index = Index(data.type, labels.rows(), tuple(_shards(entries(), folder, size=size, samples=samples)))
    write_atomically(folder / INDEX_NAME, json.dumps(index.document(), ensure_ascii=False))
    return index


def _shards(entries: Iterator[bytes], folder: Path, *, size: int, samples: int | None) -> Iterator[Shard]:
    """Write shards one after another, each with at least one sample."""
    number, entry = 0, next(entries, None)
    while entry is not None:
        name = f"shard-{number:06d}.tar"
        with open(folder / name, "xb") as file:
            digest, offsets = hashlib.sha256(), [0]
            while entry is not None and (
                offsets == [0] or (len(offsets) - 1 != samples and offsets[-1] + len(entry) + len(_END) <= size)
            ):
                _write(entry, file, digest)
                offsets.append(offsets[-1] + len(entry))
                entry = next(entries, None)
            _write(_END, file, digest)
            file.flush()
            os.fsync(file.fileno())
        yield Shard(name, offsets[-1] + len(_END), digest.hexdigest(), np.array(offsets, dtype=np.int64))
        number += 1


def _write(data: bytes, file: BinaryIO, digest: hashlib._Hash) -> None:
    file.write(data)
    digest.update(data)


def _entry(key: str, stored: Stored) -> bytes:
    """Return the bytes of a sample in a tar file, its members sorted by name.

    Raises:
        DataError: The sample is larger than readers accept.
    """
    files = {_suffix(stored): stored.picture, ANNOTATION: stored.annotation}
    for field, kind in file_format(stored.type, stored.picture.name).members.items():
        files[kind] = stored.files[field]
    parts = []
    for kind, content in sorted(files.items()):
        header = tarfile.TarInfo(f"{key}.{kind}")
        header.size, header.mode = len(content.data), 0o444
        padding = bytes(-len(content.data) % tarfile.BLOCKSIZE)
        parts += [header.tobuf(tarfile.USTAR_FORMAT), content.data, padding]
    if (length := sum(map(len, parts))) > LARGEST_SAMPLE:
        raise DataError(f"{stored.picture}: the sample has {length} bytes, at most {LARGEST_SAMPLE} are read")
    return b"".join(parts)


def _suffix(stored: Stored) -> str:
    """Return the image suffix to store: from the file name, or from the content if the name has none we know."""
    suffix = PurePath(stored.name).suffix.lower()[1:]
    if suffix in PICTURES:
        return suffix
    from PIL import Image

    with Image.open(BytesIO(stored.picture.data)) as picture:
        return str(picture.format).lower()
