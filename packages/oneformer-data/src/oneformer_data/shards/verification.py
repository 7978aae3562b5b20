"""Find every problem in a set of shards: in its index, its files and each sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from oneformer_data.formats.coco_images import category_problems
from oneformer_data.opening.sources import Source
from oneformer_data.shards.decoding import decode
from oneformer_data.shards.index import Index, Shard
from oneformer_data.shards.reader import Shards
from oneformer_data.shards.store import Store
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels


def problems(source: Source, index: Index, store: Store, labels: Labels) -> Iterator[str]:
    """Yield one line per problem. Every shard is read whole and every sample decoded; broken shards are skipped."""
    for line in category_problems({"categories": index.categories}, labels):
        yield f"{source.annotations}: {line}"
    samples = Shards(index, store, labels, source)
    progress = Progress(f"check {source.annotations}", "images")
    seen: dict[str, dict[object, str]] = {"file_name": {}, "id": {}}
    position = 0
    for shard in index.shards:
        problem = store.problem(shard) or _digest_problem(shard, store)
        if problem is not None:
            yield problem
        for _ in shard.offsets[1:]:
            if problem is None:
                yield from _problems(samples, position, labels, source, seen)
            position += 1
            progress(position, len(samples))


def _problems(
    samples: Shards, position: int, labels: Labels, source: Source, seen: dict[str, dict[object, str]]
) -> Iterator[str]:
    """Yield the problems of a sample; `seen` collects the names and ids of all samples so far."""
    try:
        stored = samples.stored(position)
        sample, location = decode(stored, labels, source), str(stored.picture)
    except DataError as error:
        yield str(error)
        return
    for field, value in (("file_name", sample.name), ("id", sample.image_id)):
        other = seen[field].setdefault(value, location)
        if other != location:
            yield f"{location}: has the same {field} {value!r} as {other}"


def _digest_problem(shard: Shard, store: Store) -> str | None:
    if shard.sha256 is None:
        return None
    try:
        with store.open(shard) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except DataError as error:
        return str(error)
    if digest == shard.sha256:
        return None
    return f"{store.path(shard)}: has the SHA-256 digest {digest}, its index says {shard.sha256}"
