"""Collect the problems of a spec, so that all of them are reported at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_SHOWN = 100
_LAST = 1_000_000


@dataclass(frozen=True, order=True)
class Place:
    """Where something stands: `text` is "file:line:column", or the argument of an override; places sort as read."""

    layer: int
    line: int
    column: int
    text: str


class Problems:
    """A list of problems in the order of what the user wrote."""

    def __init__(self) -> None:
        self._found: list[tuple[Place, str]] = []
        self.unreadable: list[str] = []
        """Located lines on files of which nothing is known."""

    def add(self, message: str, place: Place | None) -> None:
        """Note a problem; one without a place comes last."""
        self._found.append((place or Place(_LAST, 0, 0, ""), message))

    def __len__(self) -> int:
        """Return the number of problems noted so far, those of unreadable files aside."""
        return len(self._found)

    def places(self) -> frozenset[Place]:
        """Return where problems were found so far."""
        return frozenset(place for place, _ in self._found)

    def lines(self) -> list[str]:
        """Return one located line per problem; past a hundred the rest is counted."""
        ordered = sorted(self._found, key=lambda item: item[0])
        found = (f"{place.text}: {message}" if place.text else message for place, message in ordered)
        lines = list(dict.fromkeys([*self.unreadable, *found]))
        more = len(lines) - MAX_SHOWN
        return [*lines[:MAX_SHOWN], f"and {more} problems more"] if more > 0 else lines


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    text = "null" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
