"""A field whose feature is still to come loads and validates; the command that needs the feature refuses it."""

import pytest

from oneformer_spec.commands.unavailable import PENDING, check_available
from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import load_spec
from oneformer_spec.schema import Spec
from oneformer_spec.schema.tree import leaves

COMMANDS = {command for row in PENDING for command in row.commands}


def test_defaults_are_available_to_every_command():
    for command in COMMANDS:
        check_available(Spec(), command)


def test_every_row_names_a_field_or_a_section():
    for row in PENDING:
        assert [path for path in leaves() if path == row.path or path.startswith(f"{row.path}.")], row.path


@pytest.mark.skipif(not PENDING, reason="nothing is pending")
@pytest.mark.parametrize(
    ("override", "command", "feature"),
    [
        ("model.sem_seg_head.ignore_value=3", "train", "model.sem_seg_head.ignore_value: another class index"),
        ("evaluate.num_nodes=2", "evaluate", "evaluate.num_nodes"),
    ],
)
def test_what_is_set_is_refused_by_the_command_alone(override, command, feature):
    spec = load_spec([], [override]).spec
    with pytest.raises(SpecError) as caught:
        check_available(spec, command)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(feature)
    assert "not available yet" in caught.value.problems[0]
    check_available(spec, "inference")


def test_all_fields_are_named_at_once():
    spec = load_spec([], ["model.sem_seg_head.ignore_value=3", "evaluate.num_nodes=2"]).spec
    with pytest.raises(SpecError) as caught:
        check_available(spec, "evaluate")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "model.sem_seg_head.ignore_value",
        "evaluate.num_nodes",
    ]
