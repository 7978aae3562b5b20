"""A data set as tar files and their index."""

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

    Images and masks are copied byte for byte; each sample is decoded before. The samples stay in order, or come in that
    of `seed`. The same data gives the same bytes.

    Raises:
        SpecError: The data set cannot be opened.
        DataError: It is wrong.
    """
    data = originals(source, labels)
    order = range(data.count) if seed is None else np.random.default_rng(seed).permutation(data.count).tolist()
    progress = Progress(f"shard {source.annotations}", "images")

    def pieces() -> Iterator[bytes]:
        for position, number in enumerate(order):
            stored = data.stored(number)
            decode(stored, labels, source)
            yield _piece(f"{position:09d}", stored)
            progress(position + 1, data.count)

    folder.mkdir(parents=True, exist_ok=True)
    index = Index(data.type, labels.rows(), tuple(_shards(pieces(), folder, size=size, samples=samples)))
    write_atomically(folder / INDEX_NAME, json.dumps(index.document(), ensure_ascii=False))
    return index


def _shards(pieces: Iterator[bytes], folder: Path, *, size: int, samples: int | None) -> Iterator[Shard]:
    """Write one shard after the other, each of at least one piece."""
    number, piece = 0, next(pieces, None)
    while piece is not None:
        name = f"shard-{number:06d}.tar"
        with open(folder / name, "xb") as file:
            digest, offsets = hashlib.sha256(), [0]
            while piece is not None and (
                offsets == [0] or (len(offsets) - 1 != samples and offsets[-1] + len(piece) + len(_END) <= size)
            ):
                _write(piece, file, digest)
                offsets.append(offsets[-1] + len(piece))
                piece = next(pieces, None)
            _write(_END, file, digest)
            file.flush()
            os.fsync(file.fileno())
        yield Shard(name, offsets[-1] + len(_END), digest.hexdigest(), np.array(offsets, dtype=np.int64))
        number += 1


def _write(data: bytes, file: BinaryIO, digest: hashlib._Hash) -> None:
    file.write(data)
    digest.update(data)


def _piece(key: str, stored: Stored) -> bytes:
    """Return a sample as a piece of a tar file, its members in the order of their names.

    Raises:
        DataError: It is larger than what is read.
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
    """Return what a picture is by its name, or by its content where the name does not tell."""
    suffix = PurePath(stored.name).suffix.lower()[1:]
    if suffix in PICTURES:
        return suffix
    from PIL import Image

    with Image.open(BytesIO(stored.picture.data)) as picture:
        return str(picture.format).lower()
