"""Where shards lie: in a folder, or on a server."""

from __future__ import annotations

from io import BufferedReader
from typing import Protocol
from urllib.parse import quote, urljoin

from oneformer_data.opening.folders import Folder
from oneformer_data.shards import remote
from oneformer_data.shards.index import Shard
from oneformer_spec.errors import DataError


class Store(Protocol):
    """Opens shards."""

    def path(self, shard: Shard) -> str:
        """Return what a shard is called in errors."""

    def problem(self, shard: Shard) -> str | None:
        """Return why a shard cannot be what the index says, as far as a look at its name tells."""

    def open(self, shard: Shard) -> BufferedReader:
        """Open a shard for reading.

        Raises:
            DataError: It cannot be had.
        """


class FolderStore:
    """Shards in the folder of their index."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def path(self, shard: Shard) -> str:
        """Return the path of a shard."""
        return str(self._folder.path(shard.name))

    def problem(self, shard: Shard) -> str | None:
        """Return whether the file is missing, lies elsewhere, or has another size than the index says."""
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
    """Shards beside an index on a server; each is fetched whole when it is first needed."""

    def __init__(self, index_url: str) -> None:
        self._index_url = index_url

    def path(self, shard: Shard) -> str:
        """Return the URL of a shard."""
        return urljoin(self._index_url, quote(shard.name))

    def problem(self, shard: Shard) -> str | None:
        """Return whether the index lacks what proves that a shard came as it was."""
        return None if shard.sha256 else f"{self.path(shard)}: its index has no sha256 of it"

    def open(self, shard: Shard) -> BufferedReader:
        """Open the fetched file."""
        return remote.opened(self.path(shard), shard)
