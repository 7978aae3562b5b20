"""docs/architecture.md: the journeys name files and functions that exist, and the diagrams keep what matters."""

from __future__ import annotations

import ast
import re

import pytest
from architecture import PAGE, reduced

ROW = re.compile(r"(?m)^\| \w+ \[`[\w/.]+`\]\((?P<file>[^)]+)\) \| (?P<names>[^|]*)\|")


def rows() -> list[tuple[str, str]]:
    journeys = PAGE.read_text(encoding="utf-8").partition("## Three journeys")[2]
    return [(row["file"], row["names"]) for row in ROW.finditer(journeys)]


def test_every_row_of_the_journeys_is_read() -> None:
    journeys = PAGE.read_text(encoding="utf-8").partition("## Three journeys")[2]
    assert len(rows()) == sum(line.startswith("| ") and ".py" in line for line in journeys.splitlines()) > 30


@pytest.mark.parametrize(("file", "names"), rows())
def test_a_journey_names_what_exists(file: str, names: str) -> None:
    tree = ast.parse((PAGE.parent / file).read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert set(re.findall(r"`(\w+)`", names)) <= defined


def test_all_links_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []


def test_an_arrow_that_others_imply_is_left_out() -> None:
    graph = {"roof": {"wall", "floor", "ground"}, "wall": {"floor"}, "floor": {"ground"}, "ground": set()}
    assert reduced(graph) == {"roof": {"wall"}, "wall": {"floor"}, "floor": {"ground"}, "ground": set()}
