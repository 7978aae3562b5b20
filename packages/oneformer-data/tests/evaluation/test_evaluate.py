"""The command `evaluate` with a model that sees by colour, so that every score is known."""

from __future__ import annotations

import json
import pickle
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from oneformer_data.evaluation import evaluate, loop, report
from oneformer_data.evaluation.loop import batches, count_parts, evaluate_parts, read_ahead, scores
from oneformer_spec.errors import CheckpointError, DataError, PluginError, SpecError, UsageError
from oneformer_spec.hooks import Evaluator, Runtime
from oneformer_spec.plugins import headlines
from oneformer_spec.plugins.registry import registry
from oneformer_spec.processes.world import World
from oneformer_spec.schema import DatasetSection, Spec, Split
from oneformer_spec.segmentation import model_file
from oneformer_spec.segmentation.frame import FitInto
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.tasks import TASKS, Task

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def colour_model(calls: list[tuple[int, float]], no_object: float = -20.0):
    """A `run` with three queries: red pixels of the left half, of the right half, and all others.

    The logit of a query's class is 20, of the other classes -20.
    """

    def run(image, task_tokens):
        calls.append((len(image), float(task_tokens[0, 4])))
        red = image[:, 0] > 130  # (B, H, W)
        left = np.arange(image.shape[3]) < 14
        masks = np.stack([red & left, red & ~left, ~red], axis=1) * 40.0 - 20.0
        classes = np.full((len(image), 3, 3), -20.0, dtype=np.float32)
        classes[..., 2] = no_object
        for query, index in enumerate((0, 0, 1)):
            classes[:, query, index] = 20.0
        return classes, masks.astype(np.float32)

    return run


@pytest.fixture
def calls() -> list[tuple[int, float]]:
    return []


@pytest.fixture
def segmenter(labels, calls) -> Segmenter:
    manifest = Manifest(labels=labels, model={}, mean=MEAN, std=STD, size=FitInto(24, 32), divisibility=8)
    return Segmenter(colour_model(calls), manifest)


@pytest.fixture
def easy(folder):
    """The data set without its second picture, whose crowd and void the colours do not tell."""
    for rows in folder.document.values():
        del rows[1]
    folder.save()
    return folder


@pytest.fixture
def spec(easy, tmp_path, segmenter, monkeypatch) -> Spec:
    """A spec that evaluates `model.fake`, whose runtime is the colour model."""
    opened = replace(registry(), runtimes={"fake": Runtime("fake", "fake:open", (".fake",))})
    monkeypatch.setattr(model_file, "registry", lambda: opened)
    monkeypatch.setattr(model_file, "resolve", lambda target: lambda path, device, num_threads, key: segmenter)
    split = Split(images=f"{easy.root}/images", annotations=f"{easy.json}", panoptic=f"{easy.root}/panoptic")
    dataset = DatasetSection(test=split, image_size=(32, 24))
    section = replace(Spec().evaluate, checkpoint="model.fake")
    return replace(Spec(), dataset=dataset, evaluate=section, results_dir=f"{tmp_path / 'results'}")


def metrics(spec: Spec) -> dict:
    with open(f"{spec.results_dir}/evaluate/metrics.json") as file:
        return json.load(file)


def test_all_tasks_are_scored_in_one_run(spec, calls, capsys):
    assert spec.dataset.label_map == ""  # the classes come with the model
    evaluate.run(spec)
    found = metrics(spec)
    assert found["PQ"]["all"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 2}
    assert found["PQ"]["per_class"].keys() == {"3", "7"}
    assert found["AP"]["AP"] == pytest.approx(1.0)
    assert found["mIoU"] == 1.0
    assert found["IoU_per_class"] == [1.0, 1.0]
    assert found["data"] == {"images": 1, "checkpoint": "model.fake"}
    assert calls == [(1, 29119.0), (1, 34572.0), (1, 1072.0)]  # one pass per task, each with its own token
    output = capsys.readouterr()
    assert "100.00" in output.out
    assert "square" in output.out
    assert output.out.endswith("results/evaluate/metrics.json\n")
    assert "evaluate: 1/1 images" in output.err


def test_instances_of_any_score_count(spec, segmenter, calls):
    """A model that gives its instances a probability of 0.27 finds as many as one that is certain."""
    segmenter.run = colour_model(calls, no_object=21.0)
    evaluate.run(replace(spec, evaluate=replace(spec.evaluate, task="instance")))
    assert metrics(spec)["AP"]["AP"] == pytest.approx(1.0)
    assert metrics(spec)["AP"]["AR100"] == pytest.approx(1.0)


@pytest.mark.parametrize(("task", "keys"), [("semantic", {"mIoU"}), ("instance", {"AP"}), ("panoptic", {"PQ"})])
def test_one_task_can_be_scored_alone(spec, calls, task, keys):
    evaluate.run(replace(spec, evaluate=replace(spec.evaluate, task=task)))
    assert metrics(spec).keys() & {"mIoU", "AP", "PQ"} == keys
    assert len(calls) == 1


def test_data_sets_of_a_list_are_scored_one_by_one_and_together(spec, easy, capsys):
    """The second data set has instances alone; what it says wrong counts in its own numbers and in the pooled ones."""
    path = easy.root / "instances.json"
    rows = [{"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[16, 12, 26, 12, 26, 22, 16, 22]]}]
    images = [{"id": 1, "file_name": "11.png", "height": 24, "width": 32}]
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    split = replace(
        spec.dataset.test,
        annotations=(f"{easy.json}", f"{path}"),
        panoptic=(f"{easy.root}/panoptic", None),
        names=("city", "field"),
    )
    evaluate.run(replace(spec, dataset=replace(spec.dataset, test=split)))
    found = metrics(spec)
    assert found["data"]["images"] == 2
    assert found["data_sets"].keys() == {"city", "field"}
    assert found["data_sets"]["city"]["PQ"]["all"]["pq"] == 1.0
    assert found["data_sets"]["field"].keys() == {"AP"}
    assert found["data_sets"]["city"]["AP"]["AP"] == pytest.approx(1.0)
    assert found["data_sets"]["field"]["AP"]["AP"] < 1
    assert found["data_sets"]["field"]["AP"]["AP"] < found["AP"]["AP"] < 1
    assert found["PQ"]["all"]["pq"] == found["mIoU"] == 1.0
    assert "city\npanoptic" in capsys.readouterr().out


def test_tasks_without_ground_truth_are_not_scored(spec, easy, capsys):
    split = replace(spec.dataset.test, panoptic=None, annotations=f"{easy.root}/masks.jsonl", images=None)
    Image.fromarray(np.full((24, 32), 7, dtype=np.uint8)).save(easy.root / "masks.png")
    (easy.root / "masks.jsonl").write_text('{"img": "images/11.png", "segm": "masks.png"}')
    semantic = replace(spec, dataset=replace(spec.dataset, test=split))
    evaluate.run(semantic)
    assert metrics(spec).keys() & {"mIoU", "AP", "PQ"} == {"mIoU"}
    assert "note: panoptic is not scored: the data has no ground truth for it\n" in capsys.readouterr().err
    with pytest.raises(
        SpecError, match=r"^evaluate\.task: the data has no ground truth for instance; formats with it: coco_inst"
    ):
        evaluate.run(replace(semantic, evaluate=replace(spec.evaluate, task="instance")))


def test_classes_can_be_left_out(spec, capsys):
    evaluate.run(replace(spec, evaluate=replace(spec.evaluate, iou_per_class=False)))
    found = metrics(spec)
    assert "IoU_per_class" not in found
    assert "per_class" not in found["PQ"]
    assert "square" not in capsys.readouterr().out


def test_without_test_data_val_is_scored_and_said(spec, capsys):
    evaluate.run(replace(spec, dataset=replace(spec.dataset, test=Split(), val=spec.dataset.test)))
    assert metrics(spec)["data"]["images"] == 1
    assert "note: dataset.test is not set: evaluating dataset.val\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"checkpoint": ""}, "evaluate.checkpoint, evaluate.trt_engine: exactly one is needed, neither is set"),
        ({"trt_engine": "a.engine"}, "evaluate.checkpoint, evaluate.trt_engine: exactly one is needed, both are set"),
    ],
)
def test_exactly_one_model_is_needed(spec, fields, problem):
    with pytest.raises(SpecError) as raised:
        evaluate.run(replace(spec, evaluate=replace(spec.evaluate, **fields)))
    assert str(raised.value) == problem


def test_a_suffix_without_runtime_is_told(spec):
    with pytest.raises(UsageError, match=r"^model\.nothing: no runtime for the suffix '\.nothing'"):
        evaluate.run(replace(spec, evaluate=replace(spec.evaluate, checkpoint="model.nothing")))


def test_broken_input_leaves_earlier_results_untouched(spec, easy, monkeypatch):
    evaluate.run(spec)
    folder = easy.root / "results" / "evaluate"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (easy.root / "images" / "11.png").unlink()
    with pytest.raises(DataError, match="does not exist"):
        evaluate.run(spec)

    def broken(path, device, num_threads, key):
        raise CheckpointError(f"{path}: is damaged")

    monkeypatch.setattr(model_file, "resolve", lambda target: broken)
    with pytest.raises(CheckpointError):
        evaluate.run(spec)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_picture_that_breaks_during_the_run_is_a_recorded_failure(spec, easy):
    path = easy.root / "images" / "11.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged image"):
        evaluate.run(spec)
    lines = (easy.root / "results" / "evaluate" / "status.json").read_text().splitlines()
    assert json.loads(lines[-1])["status"] == "FAILURE"
    assert "damaged image" in json.loads(lines[-1])["message"]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"id": 3, "name": "a"}], "has 1 categories, but model.fake was trained on 2"),
        (
            [{"id": 3, "name": "a"}, {"id": 8, "name": "b"}],
            "class 1 is thing 8 ('b'), but model.fake was trained on stuff 7 ('ground')",
        ),
    ],
)
def test_a_model_of_other_classes_is_refused(spec, tmp_path, rows, problem):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError) as raised:
        evaluate.run(replace(spec, dataset=replace(spec.dataset, label_map=f"{path}")))
    assert str(raised.value) == f"{path}: {problem}"


def test_pictures_of_one_size_go_together(folder, labels, segmenter, calls):
    folder.add(13, np.full((16, 16), 1), [{"id": 1, "category_id": 7}])
    folder.add(14, np.full((24, 32), 1), [{"id": 1, "category_id": 7}])
    samples = folder.open()
    groups = [[sample.image_id for sample in group] for group in batches(samples, 3)]
    assert groups == [[11, 12, 14], [13]]
    one_by_one = evaluate_parts({"all": samples}, lambda images, task: segmenter.predict(images, task), TASKS, labels)
    done = []
    together = evaluate_parts(
        {"all": samples},
        lambda images, task: segmenter.predict(images, task),
        TASKS,
        labels,
        batch_size=3,
        progress=lambda *count: done.append(count),
    )
    assert together == one_by_one
    assert done == [(3, 4), (4, 4)]


class Counted:
    """A score of a plugin: how many segments were predicted."""

    def __init__(self, labels) -> None:
        self.count = 0

    def update(self, sample, segmentation) -> None:
        self.count += len(segmentation.segments)

    def merge(self, other) -> None:
        self.count += other.count

    def compute(self) -> dict:
        return {"predicted": self.count}


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_a_plugin_scores_the_predictions_of_its_task_beside_the_others(folder, labels, segmenter, monkeypatch, task):
    more = dict(registry().evaluators) | {"counted": Evaluator("counted", f"{__name__}:Counted", task)}
    samples = folder.open()

    def predict(images, task):
        return segmenter.predict(images, task)

    before = evaluate_parts({"all": samples}, predict, TASKS, labels)
    monkeypatch.setattr(loop, "registry", lambda: replace(registry(), evaluators=more))
    found = evaluate_parts({"all": samples}, predict, TASKS, labels)
    results = [result for sample in samples for result in predict([sample.image], Task(task))]
    before |= {"predicted": sum(len(result.segments) for result in results)}
    assert found == before


def test_two_scores_of_one_name_are_an_error(folder, labels, segmenter, monkeypatch):
    more = {name: Evaluator(name, f"{__name__}:Counted", "semantic") for name in ("one", "two")}
    monkeypatch.setattr(loop, "registry", lambda: replace(registry(), evaluators=more))
    with pytest.raises(PluginError, match=r"^the evaluator 'two' computes 'predicted', and so does another one$"):
        evaluate_parts({"all": folder.open()}, lambda images, task: segmenter.predict(images, task), TASKS, labels)


class Measured(Counted):
    """Gives numbers as numpy has them."""

    def compute(self) -> dict:
        return {"measured": {"count": np.int64(self.count), "rows": np.arange(2), "none": np.float32("nan"), 3: (1,)}}


class Broken(Counted):
    def update(self, sample, segmentation) -> None:
        raise ZeroDivisionError("division by zero")


def add_evaluator(monkeypatch, kind: str, headline=None) -> None:
    more = dict(registry().evaluators) | {"more": Evaluator("more", f"{__name__}:{kind}", "semantic", headline)}
    found = replace(registry(), evaluators=more)
    for module in (loop, headlines):
        monkeypatch.setattr(module, "registry", lambda: found)


def test_numbers_of_numpy_become_plain_ones_and_nothing_is_dropped(folder, labels, segmenter, monkeypatch):
    add_evaluator(monkeypatch, "Measured")
    samples = folder.open()
    found = evaluate_parts({"all": samples}, lambda images, task: segmenter.predict(images, task), TASKS, labels)
    measured = found.pop("measured")
    assert json.loads(json.dumps(measured)) == measured == {"count": 4, "rows": [0, 1], "none": None, "3": [1]}
    assert found.keys() >= {"mIoU", "AP", "PQ"}


def test_the_table_has_the_headline_numbers_of_other_evaluators(labels, monkeypatch):
    add_evaluator(monkeypatch, "Measured", {"counted": ("measured", "count"), "absent": ("measured", "other")})
    assert report.table({"measured": {"count": 4}}, labels) == "further  counted\nscores    4.0000"
    assert report.table({}, labels) == ""


def test_a_task_without_an_evaluator_is_not_scored(folder, monkeypatch, capsys):
    only = {"panoptic": registry().evaluators["panoptic"]}
    monkeypatch.setattr(evaluate, "registry", lambda: replace(registry(), evaluators=only))
    parts = {"all": folder.open()}
    assert evaluate.tasks(TASKS, parts) == (Task.PANOPTIC,)
    assert "note: instance is not scored: no evaluator of it is installed\n" in capsys.readouterr().err
    with pytest.raises(SpecError, match=r"^evaluate\.task: no evaluator of the task semantic is installed$"):
        evaluate.tasks(("semantic",), parts)


def test_a_task_that_nobody_scores_is_not_run(folder, labels, monkeypatch):
    monkeypatch.setattr(loop, "registry", lambda: replace(registry(), evaluators={}))

    def predict(images, task):
        raise AssertionError(f"{task} was run")

    assert evaluate_parts({"all": folder.open()}, predict, TASKS, labels) == {}


def test_an_evaluator_that_fails_is_named(folder, labels, segmenter, monkeypatch):
    add_evaluator(monkeypatch, "Broken")
    with pytest.raises(PluginError, match=r"^the evaluator 'more'.* fails: ZeroDivisionError: division by zero$"):
        evaluate_parts({"all": folder.open()}, lambda images, task: segmenter.predict(images, task), TASKS, labels)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 3, 20])
def test_shares_see_the_batches_and_give_the_numbers_of_one_process(folder, labels, segmenter, batch_size, size):
    for number in range(13, 33):
        height, width = ((24, 32), (16, 16), (24, 40))[number % 3]
        ids = np.full((height, width), 1)
        ids[2 : 4 + number % 7, 2:9] = 2
        folder.add(number, ids, [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 3}])
    # Of two pictures of one name the first counts.
    parts = {"city": folder.open(), "field": [replace(folder.open()[number % 7], name="one") for number in range(9)]}
    seen = []

    def predict(images, task):
        seen.append((task, [image.tobytes() for image in images]))
        return segmenter.predict(images, task, min_score=0.0)

    whole = evaluate_parts(parts, predict, TASKS, labels, batch_size=batch_size)
    batches_of_one, seen = seen, []
    worlds = [World(rank, rank, size, size) for rank in range(size)]
    counted = [count_parts(parts, predict, TASKS, labels, batch_size=batch_size, world=world) for world in worlds]
    assert scores(pickle.loads(pickle.dumps(counted)), TASKS, labels) == whole
    assert sorted(seen) == sorted(batches_of_one)


def test_few_samples_are_held_back():
    @dataclass
    class Sized:
        size: tuple[int, int]

    waiting: list[int] = []

    class Counted(list):
        def __getitem__(self, index):
            waiting.append(index)
            return super().__getitem__(index)

    taken = 0
    for group in batches(Counted(Sized((number, number)) for number in range(20)), 2):
        assert len(waiting) - taken <= 8
        taken += len(group)
    assert taken == 20


class TestReadAhead:
    @pytest.mark.parametrize("num_workers", [0, 1, 3])
    def test_order_stays_and_every_sample_is_read_once(self, num_workers):
        read = []

        class Samples(list):
            def __getitem__(self, index):
                read.append(index)
                return super().__getitem__(index)

        assert list(read_ahead(Samples(range(20)), num_workers, range(20))) == list(range(20))
        assert sorted(read) == list(range(20))

    def test_threads_read_and_few_samples_wait(self):
        readers = {}

        class Samples(list):
            def __getitem__(self, index):
                readers[index] = threading.current_thread()
                return super().__getitem__(index)

        coming = read_ahead(Samples(range(100)), 2, range(100))
        assert next(coming) == 0
        coming.close()
        assert len(readers) <= 5
        assert threading.main_thread() not in readers.values()

    def test_an_error_comes_at_its_sample(self):
        class Samples(list):
            def __getitem__(self, index):
                if index == 2:
                    raise DataError("broken")
                return super().__getitem__(index)

        coming = read_ahead(Samples(range(9)), 2, range(9))
        assert [next(coming), next(coming)] == [0, 1]
        with pytest.raises(DataError, match="broken"):
            next(coming)
