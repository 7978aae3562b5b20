"""`check_task` accepts the built-in tasks, and says what is wrong with others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oneformer_data import Sample, Targets
from oneformer_data.testing import check_task
from oneformer_data.training.tokenizer import prompt_row
from oneformer_spec.hooks import Task
from oneformer_spec.plugins import task_declarations
from oneformer_spec.plugins.task_declarations import declared_task, declared_tasks
from oneformer_spec.results import Segment, Segmentation
from oneformer_spec.tasks import TASKS

GOOD = Task("cells", "The task is cells", f"{__name__}:good")


def good(sample: Sample) -> Targets:
    things = [segment for segment in sample.segments if segment.isthing]
    masks = [(sample.id_maps == segment.id).any(axis=0) for segment in things]
    found = [(segment.class_index, mask) for segment, mask in zip(things, masks, strict=True) if mask.any()]
    stacked = np.array([mask for _, mask in found], dtype=np.bool_).reshape(-1, *sample.size)
    return Targets(np.array([index for index, _ in found], dtype=np.int64), stacked)


def of_another_size(sample: Sample) -> Targets:
    return Targets(good(sample).labels, good(sample).masks[:, 1:])


def with_an_empty_mask(sample: Sample) -> Targets:
    return Targets(good(sample).labels, good(sample).masks & False)


def floats(sample: Sample) -> Targets:
    return Targets(good(sample).labels, good(sample).masks.astype(float))


def other_classes(sample: Sample) -> Targets:
    return Targets(good(sample).labels + 2, good(sample).masks)


def changing(sample: Sample) -> Targets:
    sample.id_maps[0, 0, 0] += 1
    return Targets(np.zeros(0, dtype=np.int64), np.zeros((0, *sample.size), dtype=np.bool_))


def a_mask(sample: Sample) -> np.ndarray:
    return good(sample).masks


def ids_of_nothing(probabilities, mask_logits, frame, labels, thresholds) -> Segmentation:
    return Segmentation("cells", np.full(frame.original, 4, dtype=np.int32), ())


def a_wrong_area(probabilities, mask_logits, frame, labels, thresholds) -> Segmentation:
    segment = Segment(1, labels[0].id, labels[0].name, True, 0.5, 7, (0, 0, 1, 1))
    return Segmentation("cells", np.ones(frame.original, dtype=np.int32), (segment,))


@pytest.fixture
def install(monkeypatch):
    """Install a task under its name."""

    def install(task: Task) -> Task:
        monkeypatch.setattr(task_declarations, "declared_tasks", lambda: {**declared_tasks(), task.name: task})
        return task

    yield install
    prompt_row.cache_clear()


@pytest.mark.parametrize("task", TASKS)
def test_the_built_in_tasks_pass(task):
    check_task(declared_task(task))


def test_a_good_one_passes(install):
    check_task(install(GOOD))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": " "}, r"^cells: the prompt is empty$"),
        ({"targets": "with_an_empty_mask"}, r"^cells: targets of whole\.png: a mask is empty$"),
        ({"targets": "floats"}, r"^cells: targets of whole\.png: masks are float64, expected bool$"),
        ({"targets": "other_classes"}, r"^cells: targets of whole\.png: have the classes \[2, 2, 2\], "),
        ({"targets": "changing"}, r"^cells: targets of whole\.png: the sample was changed$"),
        ({"decode": "ids_of_nothing"}, r"^cells: decoding: the map holds \[4\], which are not ids of segments$"),
        ({"decode": "a_wrong_area"}, r"^cells: decoding: segment 1 has 1961 pixels, not 7$"),
    ],
)
def test_what_breaks_the_contract_is_named(install, changes, message):
    paths = {field: value if field == "prompt" else f"{__name__}:{value}" for field, value in changes.items()}
    with pytest.raises(AssertionError, match=message):
        check_task(install(replace(GOOD, **paths)))


@pytest.mark.parametrize("function", ["of_another_size", "a_mask"])
def test_targets_of_a_wrong_kind_are_an_error_of_the_plugin_in_training_too(install, function):
    task = install(replace(GOOD, targets=f"{__name__}:{function}"))
    expected = rf"^the task 'cells': {__name__}:{function} must return Targets with masks \(N, 40, 56\), found "
    with pytest.raises(Exception, match=expected):
        check_task(task)


def test_a_task_that_is_not_installed_is_refused():
    with pytest.raises(Exception, match=r"^no task 'cells' is installed; available: semantic, "):
        check_task(GOOD)
