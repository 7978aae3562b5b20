"""The generated part of architecture.md: diagrams and tables of packages, rooms and floors, read from the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from rooms import FLOORS, imported, modules, targets

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- Generated from the imports by `nox -s docs`: begin -->", "<!-- Generated: end -->"
Graph = Mapping[str, set[str]]


def architecture() -> str:
    """Return the page with its generated part renewed; the rest is written by hand."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return "\n".join([before + BEGIN, "", *_generated(), "", END + after])


def _generated() -> Iterator[str]:
    yield from _flowchart({package: siblings(package) for package in FLOORS}, "oneformer-{}")
    for package, floors in FLOORS.items():
        yield from ("", f"### oneformer-{package}", "")
        top_down = floors[::-1]
        yield from _flowchart(reduced({room: below(package, room) for room in top_down}), "{}")
        yield from ("", "| floor | room or module | holds |", "| --- | --- | --- |")
        for floor, room in zip(range(len(floors), 0, -1), top_down, strict=True):
            yield f"| {floor} | {_link(package, room)} | {_summary(package, room)} |"


def siblings(package: str) -> set[str]:
    """Return the packages of this repository that a package imports, without the prefix."""
    names = {name.partition(".")[0] for file in modules(ROOT, package).values() for name in imported(file)}
    return {name.removeprefix("oneformer_") for name in names if name.startswith("oneformer_")} - {package}


def below(package: str, room: str) -> set[str]:
    """Return the rooms and top-level modules on lower floors that a room imports."""
    known = modules(ROOT, package)
    files = [file for name, file in known.items() if name.partition(".")[0] == room]
    found = {name.partition(".")[0] for file in files for name in targets(file, f"oneformer_{package}", known)}
    lower = FLOORS[package][: FLOORS[package].index(room)]
    return found & set(lower)


def reduced(graph: Graph) -> Graph:
    """Return an acyclic graph without the arrows that others imply: a -> c goes if there is a -> b -> c."""
    return {node: ends - {far for end in ends for far in _reach(graph, end)} for node, ends in graph.items()}


def _reach(graph: Graph, start: str) -> set[str]:
    """Return the nodes at the ends of all paths that begin at a node."""
    return graph[start].union(*(_reach(graph, end) for end in graph[start]))


def _flowchart(graph: Graph, title: str) -> Iterator[str]:
    """Yield a Mermaid diagram; nodes are numbered because Mermaid reserves words such as `end` and `graph`."""
    numbers = {node: f"n{number}" for number, node in enumerate(graph)}
    yield from ("```mermaid", "flowchart TB")
    yield from (f'    {number}["{title.format(node)}"]' for node, number in numbers.items())
    yield from (f"    {numbers[node]} --> {numbers[end]}" for node, ends in graph.items() for end in sorted(ends))
    yield "```"


def _link(package: str, room: str) -> str:
    """Return a link to the folder of a room, or to the file of a module."""
    file = modules(ROOT, package)[room]
    path = file.parent if file.name == "__init__.py" else file
    return f"[`{path.name}`](../{path.relative_to(ROOT).as_posix()})"


def _summary(package: str, room: str) -> str:
    """Return the first paragraph of a room's or module's docstring on one line."""
    docstring = ast.get_docstring(ast.parse(modules(ROOT, package)[room].read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split()).replace("|", "\\|")
