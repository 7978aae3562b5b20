"""Every field of the contract, with its type, default and limits, as `spec_fields.jsonl` lists them."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.dotted import get
from oneformer_spec.loading.json_schema import leaf_schema, validation_schema
from oneformer_spec.loading.load import load_spec, to_dict
from oneformer_spec.plugins.builtins import oneformer_backbones
from oneformer_spec.schema import Spec
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
    "map": ([{}, {"depth": 3, "names": ["x"]}], [[], "x", 1]),
    "tasks": ([{"panoptic": 1.0}], [{"panoptic": 2.0}, {"depth": 1.0}, 1, {"panoptic": "x"}]),
    "norm": ([2, 1.5, "inf"], ["two", 0, True]),
}


def fits(row, value):
    return Draft202012Validator(leaf_schema(leaves()[row["path"]])).is_valid(value)


def in_list(row, value):
    """Wrap a number or a word for a field that holds a list of them."""
    return [value] if row["type"].startswith("list[") else value


def test_these_fields_and_no_others():
    plugins = tuple(f"model.backbone.{name}." for name in Spec().model.backbone.sections if name not in BUILT_IN)
    assert {path for path in leaves() if not path.startswith(plugins or "-")} == {row["path"] for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])
class TestField:
    def test_default(self, row):
        default = get(to_dict(Spec()), row["path"])
        assert default == row["default"]
        assert type(default) is type(row["default"])
        assert get(validation_schema(), f"properties.{row['path'].replace('.', '.properties.')}.default") == default

    def test_type(self, row):
        good, bad = EXAMPLES[row["type"]]
        assert [value for value in [*good, row["default"], *row.get("good", [])] if not fits(row, value)] == []
        assert [value for value in [*bad, *row.get("bad", [])] if fits(row, value)] == []
        assert fits(row, None) == row.get("nullable", False)

    def test_limits(self, row):
        least = row.get("minimum", row.get("above"))
        step = row.get("multiple_of", 1)
        if "minimum" in row and row["type"] not in ("norm", "tasks"):
            assert fits(row, in_list(row, least))
            assert not fits(row, in_list(row, least - step))
        if "above" in row:
            assert not fits(row, in_list(row, least))
            assert fits(row, in_list(row, least + 0.5))
        if "maximum" in row:
            assert fits(row, in_list(row, row["maximum"]))
            assert not fits(row, in_list(row, row["maximum"] + 1))
        if "multiple_of" in row:
            assert not fits(row, least + step + 1)
        assert all(fits(row, value) for value in row.get("also", []))
        if row.get("distinct") or row.get("ascending"):
            assert not fits(row, [3, 3])

    def test_words(self, row):
        for word in row.get("choices", []):
            assert fits(row, in_list(row, word))
        if "choices" in row:
            assert not fits(row, in_list(row, "something else"))

    def test_help_is_one_sentence(self, row):
        text = leaves()[row["path"]].option.help
        assert text[0].isupper()
        assert text.endswith(".")
        assert "\n" not in text

    def test_wrong_value_is_located(self, row):
        wrong = "{surely: [wrong]}" if row["type"] not in ("map", "str", "paths") else "[{wrong: 1}]"
        wrong = '"[wrong' if row["type"] == "str" else wrong
        argument = f"{row['path']}={wrong}"
        with pytest.raises(SpecError) as caught:
            load_spec([], [argument])
        assert any(problem.startswith(f"{argument}: {row['path']}") for problem in caught.value.problems) or (
            row["path"] == "encryption_key" and "encryption_key=<set>: encryption_key" in str(caught.value)
        )


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
