"""YAML and JSON text to plain data that knows its lines: no code, no tags, no duplicate keys, everything bounded."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.problems import Place

if TYPE_CHECKING:
    from ruamel.yaml.events import Event

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 5_000
MAX_NUMBER_LENGTH = 40

Path = tuple[str | int, ...]
"""Keys and list positions from the root to a value."""

_NULL = re.compile(r"(~|null|Null|NULL|)")
_BOOLEAN = re.compile(r"(true|True|TRUE|false|False|FALSE)")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What ruamel's words mostly mean: the first whose pattern is found in them.
_GUESSES = (
    (r"character '\\t'", "YAML is indented with spaces, never with tabs"),
    (r"cannot start any token", "write text that begins with it in quotes"),
    (r"unknown escape character", "a backslash in double quotes begins an escape; use single quotes, or / in paths"),
    (r"mapping values are not allowed", "is a space missing behind a ':', or text with ': ' in it not in quotes?"),
    (r"end of stream|<stream end>", "a bracket or a quote is not closed"),
    (r"expected <block end>", "is the line indented like its neighbours?"),
)
_NAN_OR_INFINITY = "a number must be finite; quote it if it is text"


@dataclass
class Document:
    """Plain data; where each value and each key stands; what is wrong with the text, by place."""

    data: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    problems: list[tuple[Place, str]] = field(default_factory=list)


def read_yaml(text: str, source: str, layer: int = 0) -> Document:
    """Read one YAML document.

    Raises:
        SpecError: The text is not valid YAML, or passes a bound (size, depth, alias expansion).
    """
    _check_text(text, source)
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    composer = _Composer(source, layer)
    try:
        composer.read(iter(yaml.parse(text)))
    except YAMLError as error:
        raise SpecError(_syntax_problem(error, source)) from None
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError, OverflowError) as error:
        # ruamel answers some malformed escapes and directives with Python's own errors
        raise SpecError(f"{source}: is not valid YAML: {error}") from None
    return composer.document


def read_json(text: str, source: str, layer: int = 0) -> Document:
    """Read a JSON document; it knows its lines like a YAML one.

    Raises:
        SpecError: The text is no JSON, or passes a bound.
    """
    _check_text(text, source)
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise SpecError(f"{source}:{error.lineno}:{error.colno}: is no JSON: {error.msg}") from None
    except RecursionError:
        raise SpecError(f"{source}: nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise SpecError(f"{source}: is no JSON: {error}") from None
    # JSON is YAML but for tabs, which JSON has between tokens only, and surrogate pairs, which `_text` mends.
    return read_yaml(text.replace("\t", " "), source, layer)


def scalar(text: str) -> Any:
    """Return what a plain YAML 1.2 scalar means; 1e-4, which YAML 1.1 takes for text, is a number too.

    Raises:
        ValueError: The number is not finite or too long.
    """
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(_NAN_OR_INFINITY)
    if _INTEGER.fullmatch(text):
        if len(text) > MAX_NUMBER_LENGTH:
            raise ValueError(f"the number is longer than {MAX_NUMBER_LENGTH} digits; quote it if it is text")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        if not math.isfinite(float(text)):
            raise ValueError(_NAN_OR_INFINITY)
        return float(text)
    return text


class _Composer:
    """Builds plain data from YAML events, counting nodes so that aliases cannot blow up."""

    def __init__(self, source: str, layer: int) -> None:
        self.document = Document()
        self._source = source
        self._layer = layer
        self._nodes = 0
        self._anchors: dict[str, Any] = {}
        self._events: Iterator[Event] = iter(())

    def read(self, events: Iterator[Event]) -> None:
        from ruamel.yaml.events import DocumentStartEvent, StreamEndEvent

        self._events = events
        next(events)  # the stream's start
        if isinstance(next(events), StreamEndEvent):
            return
        self.document.data = self._node(next(events), ())
        next(events)  # the document's end
        following = next(events)
        if isinstance(following, DocumentStartEvent):
            self._refuse(following, "a spec is one YAML document, here a second one begins")

    def _node(self, event: Event, path: Path) -> Any:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

        self._count(event)
        if len(path) > MAX_DEPTH:
            self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        self.document.values[path] = self._place(event)
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        if event.tag is not None and str(event.tag) != "!":
            self._problem(event, f"tags are not allowed, found {str(event.tag)[:80]!r}")
        if isinstance(event, ScalarEvent):
            value: Any = self._scalar(event)
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _scalar(self, event: Any) -> Any:
        if event.style:
            return self._text(event)
        try:
            return scalar(event.value)
        except ValueError as error:
            self._problem(event, f"found {event.value[:60]}, {error}")
            return None

    def _text(self, event: Any) -> str:
        text: str = event.value
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(event, "text with half a surrogate pair")

    def _sequence(self, path: Path) -> list[Any]:
        from ruamel.yaml.events import SequenceEndEvent

        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        from ruamel.yaml.events import MappingEndEvent

        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key, is_plain = self._key(event)
            place = self._place(event)
            if key == "<<" and is_plain:
                for part in self._merge_value(path):
                    merged = part | merged
                self.document.keys |= {(*path, name): place for name in merged if name not in found}
                continue
            if key in found:
                first = self.document.keys[(*path, key)].text
                self._problem(event, f"the key {key[:80]!r} stands twice, first at {first}")
            self.document.keys[(*path, key)] = place
            found[key] = self._node(next(self._events), (*path, key))
        return merged | found

    def _key(self, event: Event) -> tuple[str, bool]:
        from ruamel.yaml.events import ScalarEvent

        self._count(event)
        if not isinstance(event, ScalarEvent):
            self._refuse(event, "a key must be text")
        if event.tag is not None and str(event.tag) != "!":
            self._problem(event, f"tags are not allowed, found {str(event.tag)[:80]!r}")
        key = self._text(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = key
        return key, not event.style

    def _merge_value(self, path: Path) -> list[dict[str, Any]]:
        """Read what `<<` names and return it as a list of mappings."""
        event = next(self._events)
        value = self._node(event, (*path, "<<"))
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            self._refuse(event, "<< takes a mapping, or a list of mappings")
        return parts

    def _alias(self, event: Any, path: Path) -> Any:
        if event.anchor not in self._anchors:
            self._refuse(event, f"the anchor of *{event.anchor} does not exist, or is being defined here")
        value = self._anchors[event.anchor]
        self._nodes += _size(value, MAX_NODES)
        self._count(event)
        if len(path) + _depth(value) > MAX_DEPTH:
            self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        return copy.deepcopy(value)

    def _count(self, event: Event) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(event, f"more than {MAX_NODES} values, aliases counted with what they stand for")

    def _place(self, event: Any) -> Place:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        return Place(self._layer, line, column, f"{self._source}:{line}:{column}")

    def _problem(self, event: Event, message: str) -> None:
        self.document.problems.append((self._place(event), message))

    def _refuse(self, event: Event, message: str) -> NoReturn:
        self._problem(event, message)
        raise SpecError([f"{place.text}: {problem}" for place, problem in self.document.problems])


def _size(value: Any, limit: int) -> int:
    """Count the values inside a value, up to a limit."""
    waiting, count = [value], 0
    while waiting and count <= limit:
        item = waiting.pop()
        count += 1
        waiting.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
    return count


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _check_text(text: str, source: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise SpecError(f"{source}: longer than {MAX_CHARACTERS} characters, which no spec is")
    if found := _UNPRINTABLE.search(text):
        position = found.start()
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        what = "NUL" if text[position] == "\0" else f"U+{ord(text[position]):04X}"
        raise SpecError(f"{source}:{line}:{column}: the character {what}: the file is binary or damaged")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found {name}, {_NAN_OR_INFINITY}")


def _syntax_problem(error: Any, source: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else source
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    words = " ".join(str(reason).split())
    guess = next((f"; {guess}" for pattern, guess in _GUESSES if re.search(pattern, words)), "")
    return f"{place}: is not valid YAML: {words}{guess}"
