"""What is derived from the schema: spec files to edit, the JSON Schema for editors, the tables of the documentation."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from oneformer_spec.documents.editor_schema import json_schema
from oneformer_spec.documents.template import field_rows, field_table, render_spec
from oneformer_spec.errors import UsageError
from oneformer_spec.loading.load import load_spec, to_dict
from oneformer_spec.loading.yaml_text import read_yaml
from oneformer_spec.schema import Spec
from oneformer_spec.schema.tree import leaves

TASKS = ("train", "evaluate", "inference", "export", "gen_trt_engine", "quantize")
SAMPLE = Path(__file__).parents[1] / "sample_spec.yaml"


def without(data, *paths):
    data = json.loads(json.dumps(data))
    for path in paths:
        *keys, last = path.split(".")
        section = data
        for key in keys:
            section = section[key]
        del section[last]
    return data


class TestRenderSpec:
    @pytest.mark.parametrize("everything", [False, True])
    @pytest.mark.parametrize("task", TASKS)
    def test_yaml_that_is_not_edited_changes_nothing(self, tmp_path, task, everything):
        (tmp_path / "spec.yaml").write_text(render_spec(task, everything=everything))
        loaded = load_spec([tmp_path / "spec.yaml"])
        assert loaded.spec == load_spec([]).spec
        assert loaded.notes == ()

    def test_all_of_it_as_json_has_every_path(self):
        assert json.loads(render_spec("train", format="json", everything=True)) == to_dict(Spec())

    def test_all_of_it_as_yaml_names_every_field(self):
        text = render_spec("train", everything=True)
        data = read_yaml(text, "").data
        for path in leaves():
            found, name = data, path.rpartition(".")[2]
            for key in path.split("."):
                found = found.get(key, {}) if isinstance(found, dict) else {}
            assert found != {} or f"# {name}: " in text or f"{name}: {{}}" in text, path

    @pytest.mark.parametrize("task", TASKS)
    def test_a_task_has_its_own_section_and_its_required_fields(self, task):
        data = json.loads(render_spec(task, format="json"))
        assert task in data
        assert data["results_dir"] == "/results"
        assert read_yaml(render_spec(task), "").data.keys() <= data.keys()

    def test_one_backbone_is_enough(self):
        backbone = json.loads(render_spec("train", format="json"))["model"]["backbone"]
        assert set(backbone) == {"type", "freeze_at", "pretrained_weights", "swin"}

    @pytest.mark.parametrize("everything", [False, True])
    @pytest.mark.parametrize("task", ["evaluate", "inference"])
    def test_a_spec_to_run_a_model_decides_nothing_that_the_model_knows(self, tmp_path, task, everything):
        (tmp_path / "spec.yaml").write_text(render_spec(task, everything=everything))
        written = load_spec([tmp_path / "spec.yaml"]).spec.written
        assert not {leaf.path for leaf in leaves().values() if leaf.option.from_model} & written

    def test_a_preset_can_be_filled_in(self, tmp_path):
        (tmp_path / "spec.yaml").write_text(render_spec("train").replace("preset: null", "preset: tiny"))
        assert load_spec([tmp_path / "spec.yaml"]).spec.model.backbone.options.embed_dim == 96

    def test_every_field_is_explained(self):
        lines = render_spec("train").splitlines()
        at = lines.index("    lr: 0.0002")
        assert lines[at - 1] == "    # Learning rate of everything but the backbone. [a number > 0]"

    def test_there_is_no_such_task(self):
        with pytest.raises(UsageError, match="no task 'training'; a spec drives train, evaluate"):
            render_spec("training")


class TestJsonSchema:
    @pytest.mark.parametrize("task", [None, *TASKS])
    def test_is_a_schema(self, task):
        Draft202012Validator.check_schema(json_schema(task))

    def test_defaults_are_valid(self):
        assert list(Draft202012Validator(json_schema()).iter_errors(to_dict(Spec()))) == []

    def test_an_editor_takes_the_documented_sample(self):
        data = read_yaml(SAMPLE.read_text(), "").data
        found = [list(error.absolute_path) for error in Draft202012Validator(json_schema()).iter_errors(data)]
        assert found == []

    @pytest.mark.parametrize("task", TASKS)
    def test_of_a_task_it_misses_nothing_in_the_sample_but_what_the_task_requires(self, task):
        data = read_yaml(SAMPLE.read_text(), "").data
        errors = Draft202012Validator(json_schema(task)).iter_errors(data)
        assert {error.validator for error in errors} <= {"required", "anyOf"}

    def test_older_spellings_are_marked(self):
        properties = json_schema()["properties"]["train"]["properties"]
        assert properties["pretrained_model"]["deprecated"]
        assert properties["clip_gradients"]["properties"]["enabled"]["type"] == "boolean"
        assert "16-mixed" in properties["precision"]["enum"]

    def test_a_task_requires_what_it_cannot_start_without(self):
        schema = Draft202012Validator(json_schema("export"))
        assert not schema.is_valid({})
        assert schema.is_valid({"export": {"checkpoint": "a.pth"}})

    def test_there_is_no_such_task(self):
        with pytest.raises(UsageError):
            json_schema("training")


def test_tables_of_the_documentation():
    assert [row[0] for row in field_rows()] == list(leaves())
    assert field_table("train.optim.lr").splitlines()[2] == (
        "| `train.optim.lr` | `0.0002` | a number > 0 | Learning rate of everything but the backbone. |"
    )
