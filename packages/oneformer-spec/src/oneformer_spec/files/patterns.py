"""Patterns that name several files of one folder, such as `train-*.tar` and `train-{000..003}.tar`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_BRACES = re.compile(r"\{([^{}]*)\}")


def is_pattern(name: str) -> bool:
    """Return whether a file name may stand for several: it holds `*`, `?`, `[` or `{`."""
    return any(character in Path(name).name for character in "*?[{")


def matches(pattern: str) -> Iterator[Path]:
    """Yield the files of a pattern in order: those that exist for `*`, `?` and `[…]`, every name for `{…}` alone.

    `{000..003}` counts and keeps the leading zeros, `{a,b}` lists; both stand in the last part of the path.
    """
    folder = Path(pattern).parent
    for name in _expanded(Path(pattern).name):
        if any(character in name for character in "*?["):
            yield from sorted(folder.glob(name))
        else:
            yield folder / name


def missing(pattern: str) -> str | None:
    """Return the first file of a pattern that does not exist, the pattern where nothing fits it, or None."""
    path = None
    for path in matches(pattern):
        if not path.exists():
            return str(path)
    return pattern if path is None else None


def _expanded(name: str) -> Iterator[str]:
    """Yield the names that the braces of a name stand for, the last pair counting fastest."""
    found = _BRACES.search(name)
    if found is None:
        yield name
        return
    for word in _words(found[1]):
        for rest in _expanded(name[found.end() :]):
            yield name[: found.start()] + word + rest


def _words(inner: str) -> Iterator[str]:
    counted = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    if counted is None:
        yield from inner.split(",")
        return
    first, last = counted.groups()
    width = len(first) if first.startswith("0") else 0
    yield from (str(number).zfill(width) for number in range(int(first), int(last) + 1))
