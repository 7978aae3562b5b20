"""Every field of the contract, with its type, default and limits, as `spec_fields.jsonl` lists them."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.dotted import get
from oneformer_spec.loading.load import load_spec, to_dict
from oneformer_spec.plugins.builtins import oneformer_backbones
from oneformer_spec.schema import Option, Spec
from oneformer_spec.schema.json_schema import leaf_schema, validation_schema
from oneformer_spec.schema.tree import leaves

ROWS = [json.loads(line) for line in (Path(__file__).parent / "spec_fields.jsonl").read_text().splitlines()]
BUILT_IN = {backbone.name for backbone in oneformer_backbones()}

# type -> values that fit, values that do not
EXAMPLES = {
    "int": ([], ["1", 1.5, True, [1]]),
    "float": ([], ["x", False, [1.0]]),
    "bool": ([True, False], ["maybe", 1, 0]),
    "str": ([], [1, True, ["x"]]),
    "list[int]": ([], [1, ["x"], [1.5], "1"]),
    "list[float]": ([[1.0, 2.0, 3.5]], [1.0, ["x", "y", "z"], [1.0]]),
    "list[str]": ([], ["res2", [1]]),
    "list[map]": ([[], [{"module_name": "x"}]], [{"module_name": "x"}, ["x"]]),
    "list[list[int]]": ([[[1, 2], [1]]], [[1], 1]),
    "pair": ([[64, 32]], [64, [64], [64, 64, 64], ["x", "y"]]),
    "size": ([512, [640, 480]], ["x", [640], [1, 2, 3], 0, [0, 640], True]),
    "paths": (["/data", ["/a", "/b"]], [1, [1], {"a": "b"}]),
    "entries": (
        [[], ["my_package.mod:Class"], [{"type": "my_package.mod:Class", "p": 1}]],
        ["x", [1], ["x"], [{"p": 1}], {"type": "my_package.mod:Class"}],
    ),
    "map": ([{}, {"depth": 3, "names": ["x"]}], [[], "x", 1]),
    "tasks": ([{"panoptic": 1.0}], [{"panoptic": 2.0}, {"depth": 1.0}, 1, {"panoptic": "x"}]),
    "norm": ([2, 1.5, "inf"], ["two", 0, True]),
}


LIMITS = ("minimum", "maximum", "above", "multiple_of", "also", "choices", "distinct", "ascending")
UNLIMITED = {name: getattr(Option(help=""), name) for name in LIMITS}
GROW_WITH_PLUGINS = {path for path, leaf in leaves().items() if leaf.names}


def fits(row, value):
    return Draft202012Validator(leaf_schema(leaves()[row["path"]])).is_valid(value)


def holding(row, value):
    """Return a value of the field's type that holds a number or a word: a list of it, or a mapping to it."""
    leaf = leaves()[row["path"]]
    if row["type"] == "tasks":
        return {"panoptic": value}
    if row["type"] == "list[list[int]]":
        return [[value]]
    in_list = row["type"].startswith("list[") or row["type"] in ("pair", "entries")
    return [value] * (leaf.shape.length or leaf.option.length or 1) if in_list else value


def beyond(row):
    """Yield numbers and words that are just within a row's limits, and others that are just beyond them."""
    step = row.get("multiple_of", 1 if isinstance(row["default"], int) or "int" in row["type"] else 1e-3)
    if "minimum" in row:
        yield row["minimum"], row["minimum"] - step
    if "above" in row:
        yield row["above"] + step, row["above"]
    if "maximum" in row:
        yield row["maximum"], row["maximum"] + step
    if "multiple_of" in row:
        yield row["minimum"] + row["multiple_of"], row["minimum"] + row["multiple_of"] + 1
    for word in row.get("choices", ()):
        yield word, f"{word}s"


def test_these_fields_and_no_others():
    plugins = tuple(f"model.backbone.{name}." for name in Spec().model.backbone.sections if name not in BUILT_IN)
    assert {path for path in leaves() if not path.startswith(plugins or "-")} == {row["path"] for row in ROWS}


def test_defaults():
    data, schema = to_dict(Spec()), validation_schema()
    for row in ROWS:
        default = get(data, row["path"])
        assert (row["path"], default, type(default)) == (row["path"], row["default"], type(row["default"]))
        described = get(schema, f"properties.{row['path'].replace('.', '.properties.')}")
        assert (row["path"], described["default"]) == (row["path"], default)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_types(kind):
    good, bad = EXAMPLES[kind]
    rows = [row for row in ROWS if row["type"] == kind]
    assert rows
    for row in rows:
        refused = [value for value in [*good, row["default"], *row.get("good", [])] if not fits(row, value)]
        accepted = [value for value in [*bad, *row.get("bad", [])] if fits(row, value)]
        assert (row["path"], refused, accepted) == (row["path"], [], [])
        assert (row["path"], fits(row, None)) == (row["path"], row.get("nullable", False))


def test_these_limits_and_no_others():
    for row in ROWS:
        option = leaves()[row["path"]].option
        declared = {name: getattr(option, name) for name in LIMITS if getattr(option, name) != UNLIMITED[name]}
        listed = {
            name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in LIMITS if name in row
        }
        if row["path"] in GROW_WITH_PLUGINS:
            assert set(listed.pop("choices", ())) <= set(declared.pop("choices", ()))
        assert (row["path"], declared) == (row["path"], listed)


@pytest.mark.parametrize("row", [row for row in ROWS if {*LIMITS} & {*row}], ids=lambda row: row["path"])
def test_limits_act(row):
    for within, outside in beyond(row):
        assert fits(row, holding(row, within)), within
        assert not fits(row, holding(row, outside)), outside
    assert [value for value in row.get("also", []) if not fits(row, value)] == []
    if row.get("distinct") or row.get("ascending"):
        item = (row["default"] or [3])[0]
        assert fits(row, [item])
        assert not fits(row, [item, item])


def test_help_is_one_sentence():
    texts = {row["path"]: leaves()[row["path"]].option.help for row in ROWS}
    assert {path: text for path, text in texts.items() if not re.fullmatch(r"[A-Z].*\.", text)} == {}


@pytest.mark.parametrize("start", range(0, len(ROWS), 60))
def test_wrong_values_are_located(start):
    """All of some fields at once: a value of no type that the field takes, named with the argument it came in."""
    arguments = [f"{row['path']}={wrong(row)}" for row in ROWS[start : start + 60]]
    with pytest.raises(SpecError) as caught:
        load_spec([], arguments)
    expected = [f"{argument}: {argument.partition('=')[0]}" for argument in arguments]
    expected = [re.sub(r"^encryption_key=[^:]*", "encryption_key=<set>", line) for line in expected]
    assert [line for line in expected if not any(found.startswith(line) for found in caught.value.problems)] == []


def wrong(row):
    if row["type"] == "str":
        return '"[wrong'
    return "[{wrong: 1}]" if row["type"] in ("map", "paths") else "{surely: [wrong]}"


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "choices" in row and row["type"] == "str"], ids=lambda row: row["path"]
)
def test_words_are_read_regardless_of_case(row):
    for word in row["choices"]:
        overrides = [f"{row['path']}={word.upper()}"]
        if row["path"] == "train.checkpointer.mode":
            overrides.append("train.checkpointer.monitor=PQ")
        assert get(to_dict(load_spec([], overrides).spec), row["path"]) == word


def test_a_default_spec_is_what_an_empty_file_gives():
    loaded = load_spec([]).spec
    assert to_dict(loaded)["train"] == to_dict(Spec())["train"]
    assert loaded.dataset.train.num_workers == loaded.dataset.workers
