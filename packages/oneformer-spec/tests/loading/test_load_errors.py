"""What is wrong is told at once, each problem with its place, what was found, what is allowed, and a guess."""

import pytest

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import load_spec


@pytest.fixture
def complain(tmp_path, monkeypatch):
    """Return the problems of a spec text (relative path: spec.yaml) and overrides."""
    monkeypatch.chdir(tmp_path)

    def problems(text="", overrides=(), task=None, name="spec.yaml"):
        (tmp_path / name).write_text(text)
        with pytest.raises(SpecError) as caught:
            load_spec([name], overrides, task)
        assert str(caught.value) == "\n".join(caught.value.problems)
        assert caught.value.exit_code == 2
        return list(caught.value.problems)

    return problems


def test_all_problems_at_once_in_the_order_of_the_text(complain):
    text = """\
train:
  num_gpus: -3
  optim:
    lrr: 1
    type: adam
dataset:
  image_size: [1024, 10]
trian: {}
"""
    assert complain(text, ["train.optim.lr=abc", "nonsense"]) == [
        "spec.yaml:2:13: train.num_gpus: found -3, expected a whole number >= 1 and <= 1024",
        "spec.yaml:4:5: train.optim.lrr: unknown field; did you mean train.optim.lr?",
        'spec.yaml:5:11: train.optim.type: found "adam", expected one of AdamW, SGD; did you mean AdamW?',
        "spec.yaml:7:22: dataset.image_size[1]: found 10, expected a whole number >= 32",
        "spec.yaml:8:1: trian: unknown field; did you mean train?",
        'train.optim.lr=abc: train.optim.lr: found "abc", expected a number > 0',
        "nonsense: an override is written path.to.field=value",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model: 5", "spec.yaml:1:8: model: found 5, expected the section's fields"),
        ("- train", 'spec.yaml:1:1: a spec holds sections, found ["train"]'),
        ("train: {seed: null}", "spec.yaml:1:15: train.seed: found nothing (null), expected a whole number >= 0"),
        ('train: {seed: "3"}', 'train.seed: found "3", expected a whole number >= 0 and <= 4294967295; take away'),
        ("model_name: 3", "model_name: found 3, expected text or null; write it in quotes if it is text"),
        ("lr: 3", "spec.yaml:1:1: lr: unknown field; did you mean train.optim.lr?"),
        ("train: {Num-Epochs: 3}", "train.Num-Epochs: unknown field; did you mean train.num_epochs?"),
        ("export: {zzz: 3}", "export.zzz: unknown field; export has results_dir, gpu_id, checkpoint,"),
        ("train: {clip_gradients: {norm: 3}}", "train.clip_gradients.norm: unknown field; train.clip_gradients has"),
        ("train: {clip_gradients: 3}", "train.clip_gradients: found 3, expected the fields enabled"),
        (
            "train: {clip_gradients: {clip_value: -1}}",
            "train.clip_gradients.clip_value (train.clip_grad_norm): found -1",
        ),
        ("train: {clip_gradients: {enabled: 1}}", "train.clip_gradients.enabled: found 1, expected true or false"),
        ("train: {gpu_ids: [1, 1]}", "train.gpu_ids: found [1, 1], expected different values"),
        ("train: {optim: {milestones: [8, 3]}}", "train.optim.milestones: found [8, 3], expected rising numbers"),
        ("dataset: {task_prob_train: {semantik: 1}}", "unknown key 'semantik', expected semantic, instance, panoptic"),
        ("quantize: {backend: modelopt.onnx}", "one of onnxruntime, torchao or null; its equivalent is onnxruntime"),
        ("export: {batch_size: 0}", "export.batch_size: found 0, expected a whole number >= 1, or -1"),
        ("export: {input_width: 100}", "found 100, expected a whole number >= 32, a multiple of 32"),
        ("train: {seed: 1, seed: 2}", "spec.yaml:1:18: the key 'seed' stands twice, first at spec.yaml:1:9"),
        ("dataset: {train: {type: coco_panotic}}", "did you mean coco_panoptic?"),
        ("model: {backbone: {type: swim}}", "one of swin, efficientvit, timm, dinat"),
        ("model: {backbone: {type: radio, radio: {num_teacher: 4}}}", "RADIO is not available yet"),
        ("model: {backbone: {name: D2RADIO}}", "RADIO is not available yet"),
    ],
)
def test_a_problem_says_what_to_do(complain, text, problem):
    found = complain(text)
    assert len(found) == 1
    assert problem in found[0]
    assert found[0].startswith("spec.yaml:1:")


AWQ = (
    'quantize.algorithm: found "awq_lite", expected one of minmax, max, entropy, rtn_dq or null; '
    "AWQ is not available yet"
)


def test_quantizing_with_awq_is_refused(tmp_path):
    model, file = tmp_path / "model.pth", tmp_path / "spec.yaml"
    model.touch()
    file.write_text(f"quantize: {{algorithm: awq_lite, model_path: {model}}}")
    with pytest.raises(SpecError) as caught:
        load_spec([file], task="quantize")
    assert caught.value.problems == (f"{file}:1:23: {AWQ}",)


def test_awq_is_refused_where_it_is_asked_for_now():
    with pytest.raises(SpecError) as caught:
        load_spec([], ["quantize.algorithm=awq_lite"])
    assert caught.value.problems == (f"quantize.algorithm=awq_lite: {AWQ}",)


def test_an_override_stands_in_place_of_the_line(complain):
    assert complain("", ["train.num_epochs=[1"]) == [
        "train.num_epochs=[1: train.num_epochs: is not valid YAML: expected ',' or ']', but got '<stream end>'; "
        "a bracket or a quote is not closed"
    ]
    assert complain("train: {seed: 1}", ["train.sed=3"]) == [
        "train.sed=3: train.sed: unknown field; did you mean train.seed?"
    ]
    assert complain("", ["train=3"]) == ["train=3: train: found 3, expected the section's fields"]


def test_an_override_repairs_a_file(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("train: {num_epochs: none}")
    assert load_spec([path], ["train.num_epochs=3"]).spec.train.num_epochs == 3


def test_a_value_behind_an_alias_is_found_where_it_is_used(complain):
    text = "dataset:\n  train: &a\n    batch_size: 0\n  val: *a\n  test:\n    <<: *a\n    num_workers: 1\n"
    assert [problem.partition(" ")[0] for problem in complain(text)] == [
        "spec.yaml:3:17:",
        "spec.yaml:4:8:",
        "spec.yaml:6:5:",
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.yaml", None, "absent.yaml: does not exist"),
        (
            "broken.yaml",
            b"train: [1",
            "broken.yaml:1:10: is not valid YAML: expected ',' or ']', but got '<stream end>'; "
            "a bracket or a quote is not closed",
        ),
        ("broken.json", b'{"train": }', "broken.json:1:11: is no JSON: Expecting value"),
        ("latin.yaml", "name: caf\xe9".encode("latin-1"), "latin.yaml: is no UTF-8 text: byte 9 is 0xe9"),
        (".", None, ".: cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, monkeypatch, name, content, problem):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_spec([name], ["train.seed=x"])
    assert caught.value.problems[0] == problem
    assert "train.seed=x" in caught.value.problems[1]


@pytest.mark.parametrize(
    ("text", "place", "guess"),
    [
        ("train:\n\tseed: 1", "2:1", "YAML is indented with spaces, never with tabs"),
        ("train:\n    seed: 1\n  optim: {}", "3:3", "is the line indented like its neighbours?"),
        ('results_dir: "C:\\data"', "1:18", "use single quotes, or / in paths"),
        ("train:\n  num_epochs:3\n  seed: 1", "3:7", "is a space missing behind a ':'"),
        ("results_dir: @here", "1:14", "write text that begins with it in quotes"),
        ('results_dir: "here', "1:19", "a bracket or a quote is not closed"),
    ],
)
def test_what_is_no_yaml_comes_with_a_guess(complain, text, place, guess):
    (found,) = complain(text)
    assert found.startswith(f"spec.yaml:{place}: is not valid YAML: ")
    assert guess in found


def test_a_number_that_is_none_is_one_problem(complain):
    assert complain("train: {optim: {lr: .nan}}") == [
        "spec.yaml:1:21: found .nan, a number must be finite; quote it if it is text"
    ]


def test_five_mistakes_are_five_places(complain):
    text = (
        "modle: {}\nmodel:\n  one_former: {hidden_dim: 250}\n"
        "train:\n  num_epoch: 3\n  optim: {lr: fast}\n  precision: fp17\n"
    )
    assert complain(text) == [
        "spec.yaml:1:1: modle: unknown field; did you mean model?",
        "spec.yaml:3:28: model.one_former.hidden_dim: model.one_former.hidden_dim (250) must be a multiple of "
        "model.one_former.nheads (8)",
        "spec.yaml:5:3: train.num_epoch: unknown field; did you mean train.num_epochs?",
        'spec.yaml:6:15: train.optim.lr: found "fast", expected a number > 0',
        'spec.yaml:7:14: train.precision: found "fp17", expected one of fp32, fp16, bf16; did you mean fp16?',
    ]
