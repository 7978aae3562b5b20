"""A task of a plugin is drawn, made into examples, and written into model files like a built-in one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from oneformer_data import Sample, Targets
from oneformer_data.datasets import Concatenation, Samples, allowed_tasks
from oneformer_data.training.pipeline import (
    Layout,
    TrainingPipeline,
    draw_task,
    for_validation,
    from_spec,
    plugin_tokens,
)
from oneformer_data.training.tokenizer import prompt_row, tokenize
from oneformer_spec.errors import SpecError
from oneformer_spec.hooks import Task as Declaration
from oneformer_spec.plugins import task_declarations
from oneformer_spec.plugins.task_declarations import declared_tasks
from oneformer_spec.schema import DatasetSection, Spec, Split
from oneformer_spec.tasks import TASKS, Task, task_row

CATEGORIES = [{"id": 3, "name": "square", "isthing": 1}, {"id": 7, "name": "ground", "isthing": 0}]
PROMPT = "The task is everything"


def everything(sample: Sample) -> Targets:
    return Targets(np.array([1]), np.ones((1, *sample.size), dtype=np.bool_))


@pytest.fixture
def install(monkeypatch):
    """Install a task that covers every pixel with class 1."""

    def install(**changes) -> None:
        task = replace(Declaration("everything", PROMPT, f"{__name__}:everything"), **changes)
        monkeypatch.setattr(task_declarations, "declared_tasks", lambda: {**declared_tasks(), task.name: task})

    prompt_row.cache_clear()
    yield install
    prompt_row.cache_clear()


def example(folder, labels, rng):
    pipeline = TrainingPipeline(
        folder.open(),
        labels,
        augment=(),
        task_probabilities={"everything": 1.0},
        layout=Layout((0.0,) * 3, (1.0,) * 3, (32, 40), num_texts=3, text_length=77, task_length=77),
    )
    return pipeline.example(0, rng)


@pytest.mark.parametrize(("filler", "text"), [(None, "an everything photo"), ("all of it", "all of it")])
def test_an_example_has_its_targets_tokens_and_texts(install, folder, labels, filler, text):
    install(filler=filler)
    found = example(folder, labels, np.random.default_rng(0))
    assert found.task == "everything"
    assert found.task_tokens.tolist() == list(tokenize(PROMPT))
    assert found.labels.tolist() == [1]
    assert found.masks[0, :24, :32].all()
    assert found.masks.sum() == 24 * 32
    assert found.text_tokens.tolist() == [list(tokenize(sentence)) for sentence in ("a photo with a ground", text)]


@pytest.mark.parametrize("task", TASKS)
def test_the_rows_of_the_built_in_tasks_are_the_published_ones(task):
    assert list(prompt_row(task, 20)) == task_row(task, 20)


def test_what_is_drawn_of_the_others_does_not_depend_on_it(install):
    probabilities = {Task.SEMANTIC: 0.5, Task.INSTANCE: 0.3, Task.PANOPTIC: 0.2}
    before = [draw_task(probabilities, TASKS, np.random.default_rng(seed)) for seed in range(50)]
    install()
    allowed = allowed_tasks([])
    assert allowed == (*TASKS, "everything")
    assert [draw_task(probabilities, allowed, np.random.default_rng(seed)) for seed in range(50)] == before
    probabilities = {"everything": 0.5, **probabilities}
    drawn = [draw_task(probabilities, allowed, np.random.default_rng(seed)) for seed in range(50)]
    assert set(drawn) == {*TASKS, "everything"}


def test_joined_data_sets_allow_it_where_one_of_them_does(install, folder):
    install(needs=("semantic",))
    semantic, things = (Samples(range(2), folder.open().__getitem__, [task]) for task in (Task.SEMANTIC, Task.INSTANCE))
    joined = Concatenation({"things": things, "classes": semantic})
    assert allowed_tasks(joined) == (Task.SEMANTIC, Task.INSTANCE, "everything")
    assert allowed_tasks(things) == (Task.INSTANCE,)


def spec_with(folder, probabilities, **changes) -> Spec:
    folder.save()
    labels = folder.root / "label_map.json"
    labels.write_text(json.dumps(CATEGORIES))
    images, panoptic = (f"{folder.root / name}" for name in ("images", "panoptic"))
    split = Split(images=images, annotations=f"{folder.json}", panoptic=panoptic)
    dataset = DatasetSection(train=split, label_map=f"{labels}", task_prob_train=probabilities, **changes)
    spec = Spec(dataset=dataset, written=frozenset({"dataset.task_prob_train"}))
    head = replace(spec.model.sem_seg_head, num_classes=2)
    return replace(spec, model=replace(spec.model, sem_seg_head=head))


def test_a_model_file_gets_the_rows_of_the_tasks_that_are_trained(install, folder):
    install()
    both = {"panoptic": 0.5, "everything": 0.5}
    assert plugin_tokens(spec_with(folder, both)) == {"everything": list(tokenize(PROMPT))}
    assert plugin_tokens(spec_with(folder, {"panoptic": 1.0, "everything": 0.0})) == {}
    assert plugin_tokens(Spec()) == {}


def test_a_prompt_that_is_too_long_is_an_error_of_the_spec(install, folder):
    install(prompt="one two three four five six seven")
    expected = (
        r"^dataset\.task_seq_len: is 8, but 'one two three four five six seven', the prompt of everything, needs 9$"
    )
    with pytest.raises(SpecError, match=expected):
        plugin_tokens(spec_with(folder, {"everything": 1.0}, task_seq_len=8))


def test_data_without_what_it_needs_is_an_error_of_the_spec(install, folder):
    install(needs=("of_another_kind",))
    with pytest.raises(SpecError, match=r"^dataset\.task_prob_train: everything has the probability 0\.5, but dataset"):
        from_spec(spec_with(folder, {"panoptic": 0.5, "everything": 0.5}))


def test_the_validation_loss_draws_it_where_it_is_trained(install, folder, labels):
    install()
    trained = for_validation(spec_with(folder, {"everything": 1.0}), folder.open(), labels)
    assert {trained.example(0, np.random.default_rng(seed)).task for seed in range(5)} == {"everything"}
    other = for_validation(spec_with(folder, {"instance": 1.0}), folder.open(), labels)
    assert {other.example(0, np.random.default_rng(seed)).task for seed in range(5)} == {Task.INSTANCE}
