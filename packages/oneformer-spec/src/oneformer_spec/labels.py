"""The label map: the classes of a data set, in the order of the network's outputs."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from oneformer_spec.errors import DataError

_LARGEST_ID = 2**24 - 1  # fits into the three channels of a COCO panoptic PNG


@dataclass(frozen=True)
class Label:
    """One class: its category id in the annotations (1 or more), its name, whether it is a thing, its RGB colour."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """The classes of a data set in the order of the network's outputs; a label's position is its class index."""

    items: tuple[Label, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, class_index: int) -> Label:
        return self.items[class_index]

    def __iter__(self) -> Iterator[Label]:
        return iter(self.items)

    @cached_property
    def indices(self) -> dict[int, int]:
        """Class index by category id."""
        return {label.id: index for index, label in enumerate(self.items)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Class names by class index."""
        return tuple(label.name for label in self.items)

    def rows(self) -> list[dict[str, object]]:
        """Return the label map as plain data for JSON; `parse` reads it."""
        return [
            {"id": label.id, "name": label.name, "isthing": int(label.isthing), "color": list(label.color)}
            for label in self.items
        ]

    @classmethod
    def read(cls, path: str | Path) -> Labels:
        """Read a label map: a JSON list of {id, name, isthing, color}.

        Raises:
            DataError: The file is missing or not valid JSON, or an entry is wrong; the message names the entry.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")  # a byte order mark is allowed
        except FileNotFoundError:
            raise DataError(f"{path}: the label map does not exist") from None
        except OSError as error:
            raise DataError(f"{path}: cannot read the label map: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: the label map is not UTF-8 text: {error}") from None
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{error.lineno}:{error.colno}: the label map is not valid JSON: {error.msg}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: the label map is not valid JSON: {error}") from None
        return cls.parse(rows, source=str(path))

    @classmethod
    def parse(cls, rows: object, source: str) -> Labels:
        """Build labels from plain data: a label map, or the `categories` of an annotation file.

        Raises:
            DataError: An entry lacks a field, an id is below 1, or an id or name occurs twice.

        >>> Labels.parse([{"id": 7, "name": "road", "isthing": 0}], source="labels.json").names
        ('road',)
        """
        if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
            raise DataError(f"{source}: expected a list of {{id, name, isthing, color}}, found {_kind(rows)}")
        labels = tuple(_label(row, f"{source}: category {number}") for number, row in enumerate(rows))
        for field in ("id", "name"):
            seen: set[object] = set()
            for label in labels:
                value = getattr(label, field)
                if value in seen:
                    raise DataError(f"{source}: two categories have the same {field}: {value!r}")
                seen.add(value)
        return cls(labels)


def _kind(value: object) -> str:
    return "an empty list" if value == [] else f"{type(value).__name__}"


def _label(row: object, where: str) -> Label:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with id, name and isthing, found {_kind(row)}")
    number, name, isthing = row.get("id"), row.get("name"), row.get("isthing", 1)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise DataError(f"{where}: the id must be an integer greater than 0, found {number!r}")
    if number > _LARGEST_ID:
        raise DataError(f"{where}: the id {number} does not fit into a PNG; the largest is {_LARGEST_ID}")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where} (id {number}): the name must be a non-empty string, found {name!r}")
    if isthing not in (0, 1):
        raise DataError(f"{where} (id {number}, {name!r}): isthing must be 0 or 1, found {isthing!r}")
    return Label(number, name, bool(isthing), _color(row.get("color"), number, f"{where} (id {number}, {name!r})"))


def _color(value: object, number: int, where: str) -> tuple[int, int, int]:
    if value is None:
        return color(number)
    match value:
        case [int(red), int(green), int(blue)] if all(0 <= channel <= 255 for channel in (red, green, blue)):
            return red, green, blue
    raise DataError(f"{where}: the color must be [red, green, blue] with values 0..255, found {value!r}")


_GOLDEN_RATIO = 0.618033988749895


def color(number: int) -> tuple[int, int, int]:
    """Return a distinct RGB colour (0..255) for a number; consecutive numbers differ clearly in hue."""
    hue = (number * _GOLDEN_RATIO) % 1.0
    saturation = (0.85, 0.6, 0.95)[number % 3]
    value = (0.95, 0.8, 0.65)[(number // 3) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
