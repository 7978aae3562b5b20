"""Write a spec as YAML with one field per line and values in flow style, valid in YAML 1.1 and 1.2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from oneformer_spec.schema.tree import Leaf, Section

Line = Callable[[Leaf, str], list[str]]
"""Turns a field and its YAML line into the lines to write, without indentation; an empty list leaves the field out."""

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+@%-]*")
# Words that YAML 1.1 or 1.2 does not read as text.
_OTHER = re.compile(r"(y|n|yes|no|on|off|true|false|null)", re.IGNORECASE)
_ESCAPED = re.compile('[\\\\"\\x00-\\x1f\\x7f-\\xa0\\u2028\\u2029\\ufeff\\ud800-\\udfff\\ufffe\\uffff]')


def section_lines(
    section: Section, data: Mapping[str, Any], line: Line, heading: Callable[[Section], list[str]]
) -> Iterator[str]:
    """Yield the lines of a section; subsections without any line are left out."""
    for name, child in section.children.items():
        if isinstance(child, Section):
            inner = [f"  {text}" if text else "" for text in section_lines(child, data.get(name, {}), line, heading)]
            if inner:
                yield from heading(child)
                yield f"{name}:"
                yield from inner
        else:
            yield from line(child, f"{name}: {flow(data[name])}")


def flow(value: Any) -> str:
    """Return a value as YAML on one line.

    >>> flow({"size": [512, None], "name": "yes"})
    '{size: [512, null], name: "yes"}'
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{text(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    return str(value)


def text(value: str) -> str:
    """Return text as YAML, quoted if YAML would read it as anything but text."""
    if _PLAIN.fullmatch(value) and not _OTHER.fullmatch(value):
        return value
    return f'"{_ESCAPED.sub(_escape, value)}"'


def _float(value: float) -> str:
    """Return a number as YAML; YAML 1.1 would read 1e-05 as text, but reads 1.0e-05 as a number."""
    mantissa, exponent, power = repr(value).partition("e")
    return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{exponent}{power}" if exponent else mantissa


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    return f"\\{character}" if character in '"\\' else f"\\u{ord(character):04x}"
