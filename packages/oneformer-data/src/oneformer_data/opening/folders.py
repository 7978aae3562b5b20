"""Files named by annotations: they must exist, and stay inside their root folder unless that is allowed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from oneformer_spec.errors import DataError


class Folder:
    """A root folder that annotations name files below; folders are listed once, so a check costs no stat per file."""

    def __init__(self, root: str | Path, *, allow_outside: bool = False) -> None:
        self.root = Path(root)
        self._allow_outside = allow_outside
        self._listings: dict[Path, dict[str, bool] | None] = {}

    def path(self, name: str) -> Path:
        """Return where a named file lies; `problem` says whether it may be opened."""
        return Path(os.path.normpath(self.root / name))

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a file name, or None; the line begins with the file."""
        path = self.path(name)
        if not self._allow_outside and self._leaves(os.path.normpath(name)):
            return f"{name}: leaves its folder {self.root}; dataset.allow_outside_root=true permits that"
        listing = self._listing(path.parent)
        if listing is None:
            return f"{path.parent}: links out of {self.root}; dataset.allow_outside_root=true permits that"
        if path.name not in listing:
            return f"{path}: does not exist"
        if listing[path.name] and not self._contains(path):
            return f"{path}: links out of {self.root}; dataset.allow_outside_root=true permits that"
        return None

    def problems(self, names: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield position and problem of every name that has one; for names right below the root this takes no time."""
        below = self._listing(self.root) or {}
        for position, name in enumerate(names):
            if below.get(name) is not False:  # no file there, or a link
                problem = self.problem(name)
                if problem is not None:
                    yield position, problem

    def allowed(self, name: str) -> Path:
        """Return where a named file lies.

        Raises:
            DataError: It may not be opened, or is not there.
        """
        problem = self.problem(name)
        if problem is not None:
            raise DataError(problem)
        return self.path(name)

    @staticmethod
    def _leaves(name: str) -> bool:
        return os.path.isabs(name) or name == os.pardir or name.startswith(os.pardir + os.sep)

    def _contains(self, path: Path) -> bool:
        return self._allow_outside or path.resolve().is_relative_to(self.root.resolve())

    def _listing(self, folder: Path) -> dict[str, bool] | None:
        """Return file name -> whether it is a link; empty for a missing folder, None for one that is elsewhere."""
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        return self._listings[folder]

    def _list(self, folder: Path) -> dict[str, bool] | None:
        try:
            with os.scandir(folder) as entries:
                files = {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
        except OSError:
            return {}
        return files if self._contains(folder) else None
