"""Find or build the index of the shards that a spec names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from oneformer_data.opening.documents import parse_json, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.record_cache import cache_folder
from oneformer_data.opening.sources import Source
from oneformer_data.shards import remote
from oneformer_data.shards.index import FORMAT, INDEX_NAME, WINDOW, Index, parse
from oneformer_data.shards.members import scan
from oneformer_data.shards.store import FolderStore, ServerStore, Store
from oneformer_spec.commands.exit import note
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.images import Content
from oneformer_spec.files.patterns import matches, missing
from oneformer_spec.plugins.annotation_formats import is_url


def open_index(source: Source) -> tuple[Index, Store]:
    """Return the index that `annotations` names, and the store that opens its shards.

    `annotations` is an index (a local JSON file, a URL, or a folder that contains one), a tar file, a pattern of tar
    files, or a folder of them. Tar files without an index are scanned once, and the result is cached.

    Raises:
        DataError: Nothing exists there, or the index or a tar file without an index is invalid.
    """
    name = source.annotations
    if is_url(name):
        return _on_server(name)
    path = Path(name)
    if path.is_dir() and (path / INDEX_NAME).exists():
        path = path / INDEX_NAME
    if path.is_dir():
        folder, tars = path, sorted(path.glob("*.tar"))
    elif path.suffix == ".tar":
        folder, tars = path.parent, [path] if path.exists() else _matching(name)
    else:
        store = FolderStore(Folder(path.parent, allow_outside=source.allow_outside_root))
        return parse(read_json(path), str(path)), store
    if not tars:
        raise DataError(f"{name}: {'contains no .tar files' if path.is_dir() else 'does not exist'}")
    store = FolderStore(Folder(folder, allow_outside=source.allow_outside_root))
    return _cached_index(tars, name), store


def _matching(pattern: str) -> list[Path]:
    """Return the tar files that match a pattern.

    Raises:
        DataError: The pattern lists a file that does not exist.
    """
    absent = missing(pattern)
    if absent is not None and absent != pattern:
        raise DataError(f"{pattern}: {absent} does not exist")
    return [] if absent is not None else list(matches(pattern))


def _on_server(url: str) -> tuple[Index, Store]:
    scheme = url[: url.index(":") + 1].lower()
    if scheme not in ("http:", "https:"):
        why = "would run a command, which reading data never does" if scheme == "pipe:" else "is not supported"
        raise DataError(f"{url}: {scheme} {why}; name a path, or an index by http: or https:")
    if url.partition("?")[0].endswith(".tar"):
        raise DataError(f"{url}: shards on a server need an index; name the {INDEX_NAME} that `dataset shard` wrote")
    index = parse(parse_json(Content(url, remote.read(url))), url)
    remote.check_room(index.shards, WINDOW + 1)
    return index, ServerStore(url)


def _cached_index(tars: Sequence[Path], name: str) -> Index:
    """Return an index of tar files that have none: from the cache, or by scanning their headers."""
    digest = hashlib.blake2b(digest_size=20)
    for tar in tars:
        status = tar.stat()
        digest.update(json.dumps([FORMAT, str(tar.resolve()), status.st_size, status.st_mtime_ns]).encode())
    cached = cache_folder() / f"{digest.hexdigest()}.shards"
    with suppress(DataError):  # missing or damaged
        return parse(read_json(cached), str(cached))
    index = _scan_all(tars, name)
    try:
        write_atomically(cached, json.dumps(index.document()))
    except OSError as error:
        note(f"{cached}: {error.strerror or error}; {name} will be scanned again at every start")
    return index


def _scan_all(tars: Sequence[Path], name: str) -> Index:
    progress = Progress(f"index {name}", "shards")
    types, shards = [], []
    for number, tar in enumerate(tars, start=1):
        try:
            with open(tar, "rb") as file:
                type, shard = scan(file, tar.name, str(tar))
        except OSError as error:
            raise DataError(f"{tar}: {error.strerror or error}") from None
        types.append(type)
        shards.append(shard)
        if type != types[0]:
            raise DataError(f"{tar}: contains samples of the format {type}, but {tars[0]} contains {types[0]}")
        progress(number, len(tars))
    return Index(types[0], None, tuple(shards))
