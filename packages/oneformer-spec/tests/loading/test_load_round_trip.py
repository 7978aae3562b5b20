"""A resolved spec gives itself again, and no damage to a file gives a traceback."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from oneformer_spec.documents.resolved import dump
from oneformer_spec.documents.yaml_lines import flow
from oneformer_spec.errors import SpecError
from oneformer_spec.loading.dotted import put
from oneformer_spec.loading.load import load_spec, to_dict
from oneformer_spec.loading.yaml_text import read_yaml
from oneformer_spec.schema.tree import leaves

SAMPLE = (Path(__file__).parents[1] / "sample_spec.yaml").read_text()
TEXT = st.text(max_size=12) | st.sampled_from(
    ["null", "1e-5", "yes", "0x1", "<<", "*a", "- a", "a: b", "#", "1:30", "~"]
)
# The same examples every time, so that a failure is never luck; shrinking them would take minutes.
FAST = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Their values depend on each other; the tests of relations hold them.
RELATED = (
    "model.one_former.hidden_dim", "model.one_former.nheads", "model.sem_seg_head.convs_dim",
    "model.text_encoder.n_ctx", "model.one_former.num_object_queries", "model.text_encoder.context_length",
    "dataset.max_seq_len",
    "dataset.min_scale", "dataset.max_scale", "train.optim.steps", "train.optim.milestones", "encryption_key",
    "dataset.task_prob_train", "export.onnx_file", "evaluate.trt_engine", "inference.trt_engine", "dataset.label_map",
    "train.checkpointer.enable_topk", "train.checkpointer.replace_periodic",
    "train.val_check_interval", "train.validation_interval",
)  # fmt: skip
RELATED_ENDS = ("_size", "embed_dim", "depths", "num_heads", "out_features", "out_indices", "in_features", "num_gpus")


def values(leaf):
    """Return a strategy for the valid values of a field."""
    if leaf.is_entries:
        counter = "collections:Counter"  # takes any keyword
        options = st.dictionaries(TEXT.filter(lambda key: key != "type"), st.integers() | TEXT, max_size=3)
        return st.lists(st.just(counter) | options.map(lambda found: {"type": counter, **found}), max_size=3)
    return one(leaf.shape, leaf.option)


def one(shape, option):
    kinds = shape.kinds or ("integer", "string")
    return st.one_of(*[kind_values(kind, shape, option) for kind in kinds])


def kind_values(kind, shape, option):
    low = option.minimum if option.above is None else option.above + 0.001
    low, high = (-100 if low is None else low), (1000 if option.maximum is None else option.maximum)
    high = max(high, low + 1) if option.maximum is None else high
    if kind == "integer":
        number = st.integers(int(low), int(min(high, 2**31)))
        return (
            number.map(lambda value: value - value % option.multiple_of + option.multiple_of)
            if option.multiple_of
            else number
        )
    if kind == "number":
        return st.floats(low, high)
    if kind == "string":
        return (
            st.sampled_from(option.choices or (["cpu", "cuda:3"] if option.pattern else []))
            if option.choices or option.pattern
            else TEXT
        )
    if kind == "array":
        length = shape.length or option.length
        least = length or max(option.min_length, 0)
        items = st.lists(one(shape.items, option), min_size=least, max_size=length or least + 3, unique=option.distinct)
        return items.map(sorted) if option.ascending else items
    if kind == "object":
        return st.dictionaries(
            st.sampled_from(option.keys) if option.keys else TEXT, one(shape.values, option), max_size=3
        )
    return st.booleans() if kind == "boolean" else st.none()


FREE = [leaf for path, leaf in leaves().items() if path not in RELATED and not path.endswith(RELATED_ENDS)]


@st.composite
def valid_data(draw):
    data = {}
    for leaf in draw(st.lists(st.sampled_from(FREE), max_size=25, unique_by=lambda leaf: leaf.path)):
        put(data, leaf.path, draw(values(leaf), label=leaf.path))
    return data


@FAST
@given(data=valid_data())
def test_any_valid_spec_survives_being_written(tmp_path, data):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(data))
    spec = load_spec([path]).spec
    again = tmp_path / "experiment.yaml"
    again.write_text(dump(spec), encoding="utf-8")
    assert load_spec([again]).spec == spec


@settings(FAST, max_examples=300)
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**30), 10**30)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_value_survives_being_written(value):
    document = read_yaml(f"key: {flow(value)}", "")
    assert document.problems == []
    assert document.data == {"key": value}


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train.optim.steps=[5, 9]", "model.test.semantic_on=false", "dataset.task_prob_val={panoptic: 1}"],
        ["train.num_gpus=4", "inference.gpu_ids=[3, 1]"],
        ["model.backbone.swin.preset=base", "model.backbone.swin.window_size=7"],
        ["model.backbone.dinat.out_indices=[1, 2, 3]", "train.optim.lr=1e-7", "train.clip_grad_norm_type=inf"],
        [
            "dataset.augmentation.train_min_size=[480, 512]",
            "dataset.train.images=[a, 'b c']",
            "dataset.image_size=[64, 32]",
        ],
    ],
)
def test_what_follows_from_other_fields_survives_too(tmp_path, overrides):
    (tmp_path / "spec.yaml").write_text(SAMPLE)
    spec = load_spec([tmp_path / "spec.yaml"], overrides).spec
    (tmp_path / "experiment.yaml").write_text(dump(spec))
    assert load_spec([tmp_path / "experiment.yaml"]).spec == spec


def test_a_resolved_spec_holds_its_notes_and_no_secret(tmp_path):
    spec = load_spec([], ["encryption_key=s3cret", "train.pretrained_model=a.pth"]).spec
    text = dump(spec)
    assert "# note: train.pretrained_model is read as train.pretrained_model_path" in text
    assert 'encryption_key: "<set>"' in text
    assert "s3cret" not in text
    (tmp_path / "experiment.yaml").write_text(text)
    with pytest.raises(SpecError, match="encryption_key: was set when this file was written"):
        load_spec([tmp_path / "experiment.yaml"])
    assert load_spec([tmp_path / "experiment.yaml"], ["encryption_key=s3cret"]).spec == spec


def test_fewer_gpus_can_be_asked_of_a_resolved_spec(tmp_path):
    (tmp_path / "experiment.yaml").write_text(dump(load_spec([], ["train.num_gpus=8"]).spec))
    assert load_spec([tmp_path / "experiment.yaml"], ["train.num_gpus=1"]).spec.train.gpu_ids == (0,)


def test_nested_data_is_json(tmp_path):
    assert json.loads(json.dumps(to_dict(load_spec([]).spec))) == to_dict(load_spec([]).spec)


def problems(*arguments):
    """Load a spec and return what is wrong with it."""
    try:
        load_spec(*arguments)
    except SpecError as error:
        return error.problems
    return ()


edits = st.tuples(
    st.sampled_from(["delete", "insert", "double", "swap"]),
    st.integers(0, len(SAMPLE)),
    st.integers(1, 40),
    st.text(max_size=3)
    | st.sampled_from(
        [":", "\n", " ", "  ", "\t", "{", "]", "*a", "&a ", "!!x", "'", '"', "<<: ", "null", "-1", ".nan"]
    ),
)


@FAST
@given(changes=st.lists(edits, min_size=1, max_size=4))
def test_damage_gives_problems_and_no_traceback(tmp_path, changes):
    text = SAMPLE
    for kind, position, length, new in changes:
        piece = text[position : position + length]
        text = (
            text[:position]
            + {"delete": "", "insert": new + piece, "double": piece * 2, "swap": piece[::-1]}[kind]
            + text[position + length :]
        )
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    assert all(problem.startswith(f"{path}:") for problem in problems([path]))


@FAST
@given(override=st.text(max_size=20) | st.builds("{}={}".format, st.sampled_from(list(leaves())), st.text(max_size=10)))
def test_any_override_gives_a_spec_or_problems(override):
    assert all(problem.startswith((override, "encryption_key=<set>")) for problem in problems([], [override]))


@FAST
@given(data=st.binary(max_size=60), position=st.integers(0, len(SAMPLE)), suffix=st.sampled_from(["yaml", "json"]))
def test_bytes_of_any_kind_give_problems_and_no_traceback(tmp_path, data, position, suffix):
    text = SAMPLE.encode()
    path = tmp_path / f"spec.{suffix}"
    path.write_bytes(text[:position] + data + text[position + len(data) :])
    assert all(problem.startswith(f"{path}:") for problem in problems([path]))


@FAST
@given(
    data=valid_data(),
    path=st.sampled_from([leaf.path for leaf in FREE]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    ),
)
def test_an_override_with_lists_and_mappings_is_read_or_named(tmp_path, data, path, value):
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(data))
    override = f"{path}={flow(value)}"
    shown = "encryption_key=<set>" if path == "encryption_key" else override
    assert all(problem.startswith((f"{shown}: ", f"{file}:")) for problem in problems([file], [override]))


def test_small_numbers_are_numbers_to_readers_of_yaml_1_1_too():
    assert (flow(1e-5), flow(2.5e-7), flow(0.1)) == ("1.0e-05", "2.5e-07", "0.1")


@pytest.mark.parametrize("preset", ["model.backbone.swin.preset=large", "model.backbone.swin.preset=tiny"])
def test_what_was_left_to_the_model_file_or_the_data_stays_so(tmp_path, preset):
    again = tmp_path / "experiment.yaml"
    spec = load_spec([], [preset, "model.test.overlap_threshold=0.8", "dataset.augmentation.test_min_size=640"]).spec
    again.write_text(dump(spec))
    loaded = load_spec([again]).spec
    assert loaded == spec
    undecided = {leaf.path for leaf in leaves().values() if leaf.option.from_model} | {"dataset.task_prob_train"}
    assert undecided & loaded.written == {"model.test.overlap_threshold", "dataset.augmentation.test_min_size"}
