"""Tasks of plugins stand beside the built-in ones wherever a task is named: spec, model file, decoding, data."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from oneformer_spec import Spec, hooks
from oneformer_spec.errors import PluginError, SpecError, UsageError
from oneformer_spec.labels import Label, Labels
from oneformer_spec.loading import load, validation
from oneformer_spec.plugins import headlines as headlines_module
from oneformer_spec.plugins import registry as registry_module
from oneformer_spec.plugins import task_declarations
from oneformer_spec.plugins.headlines import headline_numbers, headlines
from oneformer_spec.results import Segmentation
from oneformer_spec.schema import json_schema, tree
from oneformer_spec.segmentation.decode import Thresholds, decode
from oneformer_spec.segmentation.frame import FitInto, Frame
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.model_file import requested_tasks
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.tasks import TASKS, Task, task_row

HERE = __name__
LABELS = Labels((Label(20, "cell", True, (1, 2, 3)), Label(30, "background", False, (4, 5, 6))))
EDGES = hooks.Task("edges", "The task is edges", "nowhere:targets")
OWN = hooks.Task("own", "The task is own", "nowhere:targets", decode=f"{HERE}:everything_is_a_cell")
ROW = [49406, 1, 49407, *[0] * 74]


def everything_is_a_cell(probabilities, mask_logits, frame, labels, thresholds):
    assert np.allclose(probabilities.sum(axis=-1), 1)
    return Segmentation("another name", np.full(frame.original, labels[0].id, dtype=np.int32), (), True)


def something_else(*arguments):
    return np.zeros(3)


@pytest.fixture
def installed(monkeypatch):
    """Install tasks and evaluators beside the built-in ones."""

    def install(*tasks, evaluators=()):
        found = replace(
            registry_module.registry(),
            tasks={task.name: task for task in sorted(tasks, key=lambda task: task.name)},
            evaluators={evaluator.name: evaluator for evaluator in evaluators},
        )
        caches = [(task_declarations, "declared_tasks"), (tree, "spec_tree"), (tree, "leaves")]
        for module in (headlines_module, registry_module):
            monkeypatch.setattr(module, "registry", lambda: found)
        for module, name in (*caches, (json_schema, "validation_schema"), (validation, "_validator")):
            original = getattr(module, name)
            original.cache_clear()
            clear.append(original.cache_clear)

    clear = []
    yield install
    monkeypatch.undo()
    for function in clear:
        function()


def segmenter(tokens):
    rows = {task: task_row(task) for task in TASKS} | tokens
    manifest = Manifest(LABELS, {}, (0.0,) * 3, (1.0,) * 3, FitInto(8, 8), 8, task_tokens=rows)

    def run(image, task_tokens):
        seen.append(task_tokens[0].tolist())
        classes = np.full((len(image), 2, 3), -9.0, dtype=np.float32)
        classes[:, 0, 0] = classes[:, 1, 1] = 9.0
        masks = np.full((len(image), 2, 8, 8), -9.0, dtype=np.float32)
        masks[:, 0, :, :4] = masks[:, 1, :, 4:] = 9.0
        return classes, masks

    seen: list[list[float]] = []
    return Segmenter(run, manifest), seen


def test_the_built_in_ones_come_first_and_in_their_order(installed):
    installed(EDGES, hooks.Task("basins", "The task is basins", "nowhere:targets"))
    assert list(task_declarations.declared_tasks()) == ["semantic", "instance", "panoptic", "basins", "edges"]
    assert task_declarations.in_order({"edges", "panoptic", "gone", "semantic"}) == ("semantic", "panoptic", "edges")


def test_the_built_in_ones_need_no_plugin(monkeypatch):
    def fail():
        raise AssertionError("plugins were loaded")

    monkeypatch.setattr(task_declarations, "declarations", fail)
    assert [task_declarations.declared_task(task).decode for task in TASKS] == [*TASKS]


def test_data_allows_a_plugins_task_where_it_allows_what_the_task_needs(installed):
    installed(EDGES, replace(EDGES, name="shapes", needs=("instance", "semantic")))
    assert task_declarations.with_plugin_tasks(TASKS) == (*TASKS, "edges", "shapes")
    assert task_declarations.with_plugin_tasks(("semantic",)) == ("semantic", "shapes")
    assert task_declarations.with_plugin_tasks(("semantic", "edges")) == ("semantic", "edges", "shapes")


def test_a_spec_may_name_it(installed, tmp_path):
    installed(EDGES)
    words = ["inference.mode=edges", "evaluate.task=edges", "dataset.task_prob_train={semantic: 0.5, edges: 0.5}"]
    spec = load.load_spec([], words).spec
    assert (spec.inference.mode, spec.evaluate.task) == ("edges", "edges")
    assert spec.dataset.task_prob_train == {"semantic": 0.5, "instance": 0.0, "panoptic": 0.0, "edges": 0.5}
    with pytest.raises(SpecError, match=r"unknown key 'edge', expected semantic, instance, panoptic, edges$"):
        load.load_spec([], ["dataset.task_prob_train={semantic: 0.5, edge: 0.5}"])
    with pytest.raises(SpecError, match=r"sum to 0\.5, expected 1"):
        load.load_spec([], ["dataset.task_prob_train={edges: 0.5}"])


def test_its_probability_is_0_unless_it_is_written(installed):
    installed(EDGES)
    assert load.load_spec([]).spec.dataset.task_prob_train == Spec().dataset.task_prob_train
    assert "edges" not in load.load_spec([], ["dataset.task_prob_train={semantic: 1}"]).spec.dataset.task_prob_train


def test_a_spec_that_names_a_task_which_is_not_installed_is_told_what_is():
    with pytest.raises(SpecError, match=r'found "edges", expected one of semantic, instance, panoptic, all$'):
        load.load_spec([], ["inference.mode=edges"])


def test_a_spec_of_a_training_with_it_is_read_for_other_purposes_without_it(tmp_path):
    words = ["dataset.task_prob_train={semantic: 0.5, edges: 0.5}"]
    for name in ("a.pth", "b.jsonl"):
        (tmp_path / name).touch()
    needed = [f"evaluate.checkpoint={tmp_path}/a.pth", f"dataset.val.annotations={tmp_path}/b.jsonl"]
    loaded = load.load_spec([], [*words, *needed, f"dataset.val.images={tmp_path}"], "evaluate")
    assert "dataset.task_prob_train: no task 'edges' is installed; evaluate does not use it" in loaded.notes
    for task in ("train", None):
        with pytest.raises(SpecError, match="unknown key 'edges', expected semantic, instance, panoptic"):
            load.load_spec([], words, task)


def test_a_model_file_holds_its_tokens_and_is_read_without_it(installed):
    manifest = Manifest.from_spec(Spec(), LABELS, {}, plugin_tokens={"edges": ROW})
    read = Manifest.from_json(manifest.to_json(), "x")
    assert read == manifest
    assert read.tokens("edges") == ROW
    assert read.tasks == TASKS
    installed(EDGES)
    assert read.tasks == (*TASKS, "edges")
    assert list(read.task_tokens) == [*TASKS, "edges"]


def test_a_row_that_holds_no_numbers_is_damage():
    data = Manifest.from_spec(Spec(), LABELS, {}, plugin_tokens={"edges": ROW}).to_dict()
    data["task_tokens"]["edges"] = "abc"
    with pytest.raises(Exception, match=r"^x: its manifest is damaged"):
        Manifest.from_dict(data, "x")


def test_it_is_run_with_its_own_tokens_and_decoded_like_the_task_that_it_names(installed):
    installed(EDGES)
    opened, seen = segmenter({"edges": ROW})
    (found,) = opened.predict([np.zeros((8, 8, 3), dtype=np.uint8)], "edges")
    assert seen == [ROW]
    assert (found.task, found.holds_classes) == ("edges", True)
    assert found.map[0].tolist() == [20] * 4 + [30] * 4
    assert [segment.category_id for segment in found.segments] == [20, 30]


def test_it_may_decode_by_itself(installed):
    installed(OWN)
    opened, _ = segmenter({"own": ROW})
    (found,) = opened.predict([np.zeros((8, 8, 3), dtype=np.uint8)], "own")
    assert (found.task, found.holds_classes, set(found.map.ravel().tolist())) == ("own", True, {20})


def test_what_it_decodes_to_must_be_a_segmentation(installed):
    installed(replace(OWN, decode=f"{HERE}:something_else"))
    with pytest.raises(PluginError, match=rf"^the task 'own': {HERE}:something_else must return a Segmentation of "):
        decode(
            np.zeros((1, 3), dtype=np.float32),
            np.zeros((1, 4, 4), dtype=np.float32),
            task="own",
            frame=Frame((8, 8), (8, 8), (8, 8)),
            labels=LABELS,
            thresholds=Thresholds(),
        )


def test_a_model_that_was_not_trained_for_it_says_what_it_was_trained_for(installed):
    installed(EDGES)
    opened, _ = segmenter({})
    with pytest.raises(UsageError, match=r"^the model was not trained for the task 'edges'; it knows semantic, "):
        opened.predict([np.zeros((8, 8, 3), dtype=np.uint8)], "edges")
    with pytest.raises(SpecError) as caught:
        requested_tasks("edges", opened, "model.onnx", "inference.mode")
    assert caught.value.problems == (
        "inference.mode: model.onnx: the model was not trained for the task 'edges'; "
        "it knows semantic, instance, panoptic",
    )
    assert requested_tasks("all", opened, "model.onnx", "inference.mode") == TASKS


def test_all_leaves_out_what_is_not_installed(installed):
    opened, _ = segmenter({"edges": ROW})
    assert requested_tasks("all", opened, "model.onnx", "inference.mode") == TASKS
    installed(EDGES)
    assert requested_tasks("all", opened, "model.onnx", "inference.mode") == (*TASKS, "edges")
    assert requested_tasks("semantic", opened, "model.onnx", "inference.mode") == (Task.SEMANTIC,)


def test_no_task_is_named_all():
    with pytest.raises(ValueError, match="cannot be named 'all'"):
        replace(EDGES, name="all")


def test_a_built_in_task_is_found_without_looking_for_plugins():
    lines = (
        "import importlib.metadata",
        "importlib.metadata.entry_points = None",
        "from oneformer_spec.plugins.task_declarations import declared_task",
        "declared_task('semantic')",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BOUNDARY = hooks.Evaluator("boundary", "nowhere:make", "edges", {"F": ("boundary", "f"), "R": ("boundary", "r")})
MEAN = hooks.Evaluator("a_mean", "nowhere:make", "semantic", {"mean": ("mean",)})


def test_headline_numbers_stand_in_the_order_of_the_tasks(installed):
    installed(EDGES, evaluators=(BOUNDARY, MEAN))
    assert headlines(("edges", "semantic")) == {"mean": ("mean",), "F": ("boundary", "f"), "R": ("boundary", "r")}
    assert headlines(("semantic",)) == {"mean": ("mean",)}


def test_a_headline_number_that_was_not_computed_is_nan(installed):
    installed(EDGES, evaluators=(BOUNDARY, MEAN))
    found = headline_numbers({"boundary": {"f": np.float32(0.5), "r": None}}, ("edges", "semantic"))
    assert found["F"] == 0.5
    assert type(found["F"]) is float
    assert np.isnan(found["R"])
    assert np.isnan(found["mean"])


def test_two_headline_numbers_of_one_name_are_an_error(installed):
    installed(EDGES, evaluators=(BOUNDARY, replace(MEAN, headline={"F": ("f",)})))
    with pytest.raises(PluginError, match=r"^two evaluators have a headline number 'F': 'a_mean' and 'boundary'$"):
        headlines(("edges", "semantic"))
