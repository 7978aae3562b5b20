"""`oneformer spec set`: change values in a spec file and leave the rest of its text unchanged."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneformer_spec.documents.yaml_lines import flow
from oneformer_spec.errors import SpecError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.loading.aliases import ALIASES
from oneformer_spec.loading.dotted import has, put
from oneformer_spec.loading.layers import read_file, read_text
from oneformer_spec.loading.load import load_spec
from oneformer_spec.loading.overrides import override_value, split_override
from oneformer_spec.loading.problems import Problems
from oneformer_spec.loading.yaml_text import read_yaml

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node

Emit = Callable[[Any], str]

_LINE_FEED_ALONE = re.compile(r"(?<!\r)\n")


def set_values(file: str | Path, overrides: Sequence[str]) -> None:
    """Write `path.to.field=value` settings into a YAML or JSON file, keeping comments, order and quotes.

    The file also keeps its mode, line ends and byte order mark; of a symbolic link the target changes.

    Raises:
        SpecError: A setting is wrong, or makes the spec wrong; the file stays as it is.
    """
    path = Path(file)
    data = read_file(path, 0, Problems()).data
    _refuse_new_problems(path, overrides)
    text = original = read_text(path)
    emit: Emit = json.dumps if path.suffix.lower() == ".json" else flow
    for argument in overrides:
        parts = split_override(argument)
        assert parts is not None  # load_spec refused it
        value = override_value(*parts).data
        keys = _spelling(data, parts[0])
        put(data, ".".join(keys), value)
        text = _edited(text, keys, value, emit)
        _check_edit(text, data, f"{path}: {'.'.join(keys)}")
    target = path.resolve()
    write_atomically(target, _mark(target) + _with_line_ends(text, original), permissions_of=target)


def _mark(path: Path) -> str:
    """Return the byte order mark that a file begins with, or nothing."""
    with open(path, "rb") as file:
        return "\ufeff" if file.read(len(BOM_UTF8)) == BOM_UTF8 else ""


def _with_line_ends(text: str, original: str) -> str:
    """Return a text with CRLF at the end of every line where the original has it at all of them."""
    has_crlf = "\r\n" in original and not _LINE_FEED_ALONE.search(original)
    return _LINE_FEED_ALONE.sub("\r\n", text) if has_crlf else text


def _check_edit(text: str, expected: dict[str, Any], where: str) -> None:
    """Refuse a change that cannot be made by editing the text, such as one inside a YAML alias."""
    try:
        same = read_yaml(text, "").data == expected
    except SpecError:
        same = False
    if not same:
        raise SpecError(f"{where}: is written in a form that cannot be edited automatically; change it by hand")


def _refuse_new_problems(path: Path, overrides: Sequence[str]) -> None:
    before = _problems(path, ())
    new = [problem for problem in _problems(path, overrides) if problem not in before]
    if new:
        raise SpecError(new)


def _problems(path: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    try:
        load_spec([path], overrides)
    except SpecError as error:
        return error.problems
    return ()


def _spelling(data: dict[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    """Return the keys that the file uses for the field, which may be an alias."""
    path = ".".join(keys)
    canonical = ALIASES.get(path, path)
    for name in (canonical, *(alias for alias, target in ALIASES.items() if target == canonical)):
        if has(data, name):
            return tuple(name.split("."))
    return tuple(keys)


def _edited(text: str, keys: Sequence[str], value: Any, emit: Emit) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import CollectionNode, MappingNode

    node = YAML(typ="safe", pure=True).compose(text)
    start, depth = 0, 0
    while isinstance(node, MappingNode) and depth < len(keys):
        found = next(((key, inner) for key, inner in node.value if key.value == keys[depth]), None)
        if found is None:
            return _inserted(text, node, keys[depth:], value, emit)
        start, node, depth = text.index(":", found[0].end_mark.index) + 1, found[1], depth + 1
    if node is None:  # an empty file
        return text + ("\n" if text and not text.endswith("\n") else "") + _block(keys, value, 0)
    new = emit(_nested(keys[depth:], value))
    first = node.start_mark.index
    if first == node.end_mark.index:  # nothing stands behind the colon
        return f"{text[:start]} {new}{text[start:]}"
    if isinstance(node, CollectionNode) and not node.flow_style:  # it begins on a line of its own
        return f"{text[:start]} {new}{text[start:first].rstrip()}{text[_end(node, text) :]}"
    return f"{text[:first]}{new}{text[_end(node, text) :]}"


def _inserted(text: str, mapping: MappingNode, keys: Sequence[str], value: Any, emit: Emit) -> str:
    """Insert a new entry after the last one of a mapping."""
    end = _end(mapping.value[-1][1], text) if mapping.value else mapping.start_mark.index + 1
    if mapping.flow_style:
        entry = emit({keys[0]: _nested(keys[1:], value)})[1:-1]
        return f"{text[:end]}{', ' if mapping.value else ''}{entry}{text[end:]}"
    line_end = text.find("\n", end)
    if line_end < 0:
        return f"{text}\n{_block(keys, value, mapping.start_mark.column)}"
    return f"{text[: line_end + 1]}{_block(keys, value, mapping.start_mark.column)}{text[line_end + 1 :]}"


def _block(keys: Sequence[str], value: Any, column: int) -> str:
    lines = [f"{' ' * (column + 2 * depth)}{key}:" for depth, key in enumerate(keys)]
    return "\n".join(lines) + f" {flow(value)}\n"


def _nested(keys: Sequence[str], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _end(node: Node, text: str) -> int:
    """Return where a node's text ends; ruamel's end marks of block nodes include the blank text after them."""
    from ruamel.yaml.nodes import CollectionNode

    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last, text)
    return len(text[: node.end_mark.index].rstrip())
