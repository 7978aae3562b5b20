"""Open shards from a folder or from a web server."""

from __future__ import annotations

from io import BufferedReader
from typing import Protocol
from urllib.parse import quote, urljoin

from oneformer_data.opening.folders import Folder
from oneformer_data.shards import remote
from oneformer_data.shards.index import Shard
from oneformer_spec.errors import DataError


class Store(Protocol):
    """Where the shards of an index are stored."""

    def path(self, shard: Shard) -> str:
        """Return the path or URL that names a shard in errors."""

    def problem(self, shard: Shard) -> str | None:
        """Return what is wrong with a shard, without reading it, or None."""

    def open(self, shard: Shard) -> BufferedReader:
        """Open a shard for reading.

        Raises:
            DataError: It cannot be opened or downloaded.
        """


class FolderStore:
    """Shards in the folder of their index."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def path(self, shard: Shard) -> str:
        """Return the path of a shard."""
        return str(self._folder.path(shard.name))

    def problem(self, shard: Shard) -> str | None:
        """Return a message if the file is missing, outside the folder, or not of the size in the index."""
        problem = self._folder.problem(shard.name)
        if problem is not None:
            return problem
        size = self._folder.path(shard.name).stat().st_size
        return None if size == shard.size else f"{self.path(shard)}: has {size} bytes, its index says {shard.size}"

    def open(self, shard: Shard) -> BufferedReader:
        """Open the file."""
        try:
            return open(self._folder.path(shard.name), "rb")
        except OSError as error:
            raise DataError(f"{self.path(shard)}: {error.strerror or error}") from None


class ServerStore:
    """Shards next to an index on a web server; each is downloaded as a whole when it is first needed."""

    def __init__(self, index_url: str) -> None:
        self._index_url = index_url

    def path(self, shard: Shard) -> str:
        """Return the URL of a shard."""
        return urljoin(self._index_url, quote(shard.name))

    def problem(self, shard: Shard) -> str | None:
        """Return a message if the index has no digest to verify the download with."""
        return None if shard.sha256 else f"{self.path(shard)}: its index has no sha256 for it"

    def open(self, shard: Shard) -> BufferedReader:
        """Open the downloaded file."""
        return remote.open_shard(self.path(shard), shard)
