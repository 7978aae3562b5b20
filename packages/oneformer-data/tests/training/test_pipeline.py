from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from oneformer_data.datasets import Concatenation, Samples
from oneformer_data.training.pipeline import Layout, TrainingPipeline, augmentations, for_validation, from_spec
from oneformer_data.training.tokenizer import tokenize
from oneformer_spec.errors import PluginError, SpecError
from oneformer_spec.plugins.option import Entry
from oneformer_spec.schema import Augmentation, DatasetSection, Spec, Split
from oneformer_spec.tasks import TASKS, Task, task_row

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 55.0, 60.0)


def pipeline(folder, labels, *, tasks=None, augment=(), padded=(32, 40)) -> TrainingPipeline:
    return TrainingPipeline(
        folder.open(),
        labels,
        augment=augment,
        task_probabilities=tasks or {Task.PANOPTIC: 1.0},
        layout=Layout(MEAN, STD, padded, num_texts=6, text_length=77, task_length=77),
    )


def test_an_example_is_normalised_padded_and_has_targets(folder, labels):
    example = pipeline(folder, labels).example(0, np.random.default_rng(0))
    assert (example.name, example.task) == ("11.png", Task.PANOPTIC)
    assert example.image.shape == (3, 32, 40)
    assert example.image.dtype == np.float32
    assert example.image[:, 4, 4] == pytest.approx([(200 - 100) / 50, (40 - 110) / 55, (40 - 120) / 60])
    assert not example.image[:, 24:].any()
    assert not example.image[:, :, 32:].any()
    assert example.labels.tolist() == [1, 0, 0]
    assert example.masks.shape == (3, 32, 40)
    assert example.masks.sum(axis=(1, 2)).tolist() == [548, 80, 140]
    assert not example.masks[:, 24:].any()
    assert example.task_tokens.tolist() == task_row(Task.PANOPTIC)


def test_the_texts_are_the_unique_ones_and_an_index(folder, labels):
    example = pipeline(folder, labels).example(0, np.random.default_rng(0))
    sentences = ["a photo with a ground", "a photo with a square", "a panoptic photo"]
    assert example.text_tokens.tolist() == [list(tokenize(sentence)) for sentence in sentences]
    assert example.text_index.tolist() == [0, 1, 1, 2, 2, 2]
    assert example.text_tokens.dtype == example.text_index.dtype == np.int64


def test_without_padding_the_size_stays(folder, labels):
    example = pipeline(folder, labels, padded=None).example(0, np.random.default_rng(0))
    assert example.image.shape == (3, 24, 32)
    assert example.masks.shape == (3, 24, 32)


def test_tasks_are_drawn_with_their_probabilities(folder, labels):
    wanted = {Task.SEMANTIC: 0.5, Task.INSTANCE: 0.3, Task.PANOPTIC: 0.2}
    examples = pipeline(folder, labels, tasks=wanted)
    rng = np.random.default_rng(0)
    drawn = [examples.example(0, rng).task for _ in range(600)]
    for task in TASKS:
        assert drawn.count(task) / 600 == pytest.approx(wanted[task], abs=0.06)


def test_a_task_without_targets_is_never_drawn(folder, labels):
    samples = Concatenation({"a": Samples(range(2), folder.open().__getitem__, [Task.INSTANCE]), "b": folder.open()})
    examples = TrainingPipeline(
        samples,
        labels,
        augment=(),
        task_probabilities=dict.fromkeys(TASKS, 1 / 3),
        layout=Layout(MEAN, STD, None, num_texts=6, text_length=77, task_length=77),
    )
    assert {examples.example(1, np.random.default_rng(seed)).task for seed in range(20)} == {Task.INSTANCE}
    assert {examples.example(2, np.random.default_rng(seed)).task for seed in range(20)} == set(TASKS)


def test_a_task_of_probability_zero_is_never_drawn_and_the_rest_is_renormalised(folder, labels):
    examples = pipeline(folder, labels, tasks={Task.SEMANTIC: 0.0, Task.INSTANCE: 0.2})
    assert {examples.example(0, np.random.default_rng(seed)).task for seed in range(20)} == {Task.INSTANCE}


@pytest.fixture
def spec(folder) -> Spec:
    labels = folder.root / "labels.json"
    labels.write_text('[{"id": 3, "name": "square", "isthing": 1}, {"id": 7, "name": "ground", "isthing": 0}]')
    split = Split(images=f"{folder.root}/images", annotations=f"{folder.json}", panoptic=f"{folder.root}/panoptic")
    dataset = DatasetSection(train=split, label_map=f"{labels}", augmentation=Augmentation(train_crop_size=(48, 64)))
    model = replace(Spec().model, sem_seg_head=replace(Spec().model.sem_seg_head, num_classes=2))
    return replace(Spec(), dataset=dataset, model=model)


def test_the_spec_describes_the_whole_pipeline(spec):
    examples = from_spec(spec)
    assert len(examples) == 2
    example = examples.example(1, np.random.default_rng(0))
    assert example.image.shape == (3, 48, 64)
    assert example.text_index.shape == (150 - 16,)
    assert example.text_tokens.shape[1] == 77


@pytest.mark.parametrize("resize", ["lsj", "shortest_edge"])
def test_an_example_depends_on_index_and_generator_only(spec, resize):
    augmentation = replace(spec.dataset.augmentation, resize=resize, train_min_size=(30, 60), fixed_padding=False)
    spec = replace(spec, dataset=replace(spec.dataset, augmentation=augmentation))
    first, second = from_spec(spec), from_spec(spec)
    first.example(0, np.random.default_rng(5))
    shapes = set()
    for seed in range(8):
        one, other = (examples.example(1, np.random.default_rng(seed)) for examples in (first, second))
        assert one.task == other.task
        for field in ("image", "labels", "masks", "text_tokens", "text_index"):
            assert np.array_equal(getattr(one, field), getattr(other, field))
        shapes.add(one.image.shape)
    assert len(shapes) > 1


@pytest.fixture
def instances(spec, folder) -> Spec:
    """The spec with COCO instance data in place of panoptic data."""
    path = folder.root / "instances.json"
    row = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    images = [{"id": 1, "file_name": "11.png", "height": 24, "width": 32}]
    path.write_text(json.dumps({"images": images, "annotations": [row]}))
    split = replace(spec.dataset.train, annotations=f"{path}", panoptic=None)
    return replace(spec, dataset=replace(spec.dataset, train=split))


def test_probabilities_that_nobody_set_follow_the_data(instances):
    examples = from_spec(instances)
    assert {examples.example(0, np.random.default_rng(seed)).task for seed in range(10)} == {Task.INSTANCE}


@pytest.mark.parametrize(
    ("probabilities", "problem"),
    [
        (
            {"semantic": 0.0, "instance": 0.5, "panoptic": 0.5},
            "panoptic has the probability 0.5, but dataset.train.annotations has no targets for it; formats "
            "with them: coco_panoptic, semantic_jsonl, webdataset",
        ),
        ({"semantic": 1.0}, "semantic has the probability 1.0, but"),
    ],
)
def test_a_task_that_the_data_cannot_give_is_a_mistake_of_the_spec(instances, probabilities, problem):
    dataset = replace(instances.dataset, task_prob_train=probabilities)
    with pytest.raises(SpecError) as raised:
        from_spec(replace(instances, dataset=dataset, written=frozenset({"dataset.task_prob_train"})))
    assert str(raised.value).startswith(f"dataset.task_prob_train: {problem}")


def test_every_data_set_needs_a_task_that_is_drawn(instances, folder):
    split = replace(
        instances.dataset.train,
        annotations=(f"{folder.root}/instances.json", f"{folder.json}"),
        panoptic=(None, f"{folder.root}/panoptic"),
    )
    dataset = replace(instances.dataset, train=split, task_prob_train={"panoptic": 1.0})
    with pytest.raises(SpecError, match=r"^dataset\.task_prob_train: instances has targets for instance only, whose"):
        from_spec(replace(instances, dataset=dataset))


def test_cutmix_mixes_picture_masks_and_texts_of_one_task(folder, labels):
    mixing = TrainingPipeline(
        Concatenation({"a": folder.open()[:1], "b": folder.open()}),
        labels,
        augment=(),
        task_probabilities={Task.INSTANCE: 1.0},
        layout=Layout(MEAN, STD, None, num_texts=9, text_length=77, task_length=77),
        cutmix_probability=1.0,
    )
    names = set()
    for seed in range(20):
        example = mixing.example(1, np.random.default_rng(seed))
        names.add(example.name)
        assert len(example.labels) == len(example.masks)
        texts = [example.text_tokens[index].tolist() for index in example.text_index[: len(example.labels)]]
        assert texts == [list(tokenize("a photo with a square"))] * len(example.labels)
    assert names == {"b/11.png+b/11.png", "b/11.png+b/12.png"}  # a partner of the same data set


class Stamp:
    """A transform: writes its value into the corner, and a mark into the name."""

    def __init__(self, value: int = 9) -> None:
        self.value = value

    def __call__(self, sample, rng):
        image = sample.image.copy()
        image[0, 0] = self.value
        return replace(sample, name=f"{sample.name}!", image=image)


def broken(kind: str):
    """Return a transform whose results are not valid samples, or that fails."""
    wrong = {
        "float": {"image": np.zeros((48, 64, 3), np.float32)},
        "size": {"image": np.zeros((8, 8, 3), np.uint8)},
        "large": {"image": np.zeros((99, 8, 3), np.uint8), "id_maps": np.zeros((1, 99, 8), np.int32)},
    }

    def step(sample, rng):
        if kind == "fails":
            raise IndexError("no\nsuch thing")
        return replace(sample, **wrong[kind]) if kind in wrong else sample.image

    return step


@pytest.fixture
def steps(monkeypatch):
    """The transforms as a module that can be imported."""
    monkeypatch.setitem(sys.modules, "steps", SimpleNamespace(Stamp=Stamp, broken=broken))


def extended(spec: Spec, *entries: Entry, **dataset: float) -> Spec:
    augmentation = replace(spec.dataset.augmentation, extra=entries)
    return replace(spec, dataset=replace(spec.dataset, augmentation=augmentation, **dataset))


@pytest.mark.usefixtures("steps")
def test_transforms_of_plugins_act_last_in_their_order_before_cutmix(spec):
    path = "steps:Stamp"
    acting = augmentations(extended(spec, Entry(path), Entry(path, {"value": 7})).dataset)
    assert [getattr(step, "entry", None) for step in acting[-3:]] == [None, Entry(path), Entry(path, {"value": 7})]
    mixed = from_spec(extended(spec, Entry(path), Entry(path, {"value": 7}), cutmix_prob=1.0))
    for seed in range(9):
        example = mixed.example(0, np.random.default_rng(seed))
        assert example.name.count("!!") == 2, "each of the two samples is changed by both steps"
    plain = from_spec(extended(spec, Entry(path))).example(0, np.random.default_rng(0))
    mean, std = np.array(spec.dataset.pixel_mean), np.array(spec.dataset.pixel_std)
    assert plain.image[:, 0, 0] == pytest.approx((9 - mean) / std)


@pytest.mark.usefixtures("steps")
def test_a_pipeline_with_a_function_of_a_plugin_can_be_sent_to_a_process(spec, folder):
    entry = Entry("steps:broken", {"kind": "none"})
    sent = pickle.loads(pickle.dumps(augmentations(extended(spec, entry).dataset)[-1]))
    assert sent.entry == entry
    with pytest.raises(PluginError, match="it returned ndarray, expected a Sample"):
        sent(folder.open()[0], np.random.default_rng(0))


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("fails", "IndexError: no such thing"),
        ("other", "it returned ndarray, expected a Sample"),
        ("float", "it returned an image float32 (48, 64, 3), expected uint8 (H, W, 3)"),
        ("size", "it returned id maps int32 (1, 48, 64), expected int32 (L, 8, 8)"),
        ("large", "it returned an image of 99 x 8, larger than train_crop_size, 48 x 64"),
    ],
)
def test_a_transform_that_fails_is_named_with_the_sample(spec, kind, problem):
    path = "steps:broken"
    pipeline = from_spec(extended(spec, Entry(path, {"kind": kind}), min_scale=1.0, max_scale=1.0))
    with pytest.raises(PluginError) as caught:
        pipeline.example(0, np.random.default_rng(0))
    assert str(caught.value) == f"transform '{path}' failed: 11.png: {problem}"


def test_cutmix_fills_with_the_mean_colour_which_is_zero_once_normalised(folder, labels):
    folder.add(13, np.full((40, 10), 1), [{"id": 1, "category_id": 7}])
    mixing = TrainingPipeline(
        folder.open(),
        labels,
        augment=(),
        task_probabilities={Task.PANOPTIC: 1.0},
        layout=Layout(MEAN, STD, None, num_texts=9, text_length=77, task_length=77),
        cutmix_probability=1.0,
    )
    examples = [mixing.example(2, np.random.default_rng(seed)) for seed in range(10)]
    corners = [example.image[:, 24:, 10:] for example in examples if example.image.shape == (3, 40, 32)]
    assert len(corners) > 3  # the others were mixed with themselves
    assert not np.any(corners)


def test_what_is_erased_has_the_mean_colour_of_the_spec(spec):
    augmentation = Augmentation(train_crop_size=(24, 32), flip_prob=0, color_prob=0, erasing_prob=1)
    dataset = replace(
        spec.dataset,
        min_scale=1,
        max_scale=1,
        pixel_mean=MEAN,
        task_prob_train={"semantic": 0.0, "instance": 0.0, "panoptic": 1.0},
        augmentation=augmentation,
    )
    example = from_spec(replace(spec, dataset=dataset)).example(0, np.random.default_rng(0))
    erased = ~example.masks.any(axis=0)
    assert 0.01 < erased.mean() < 0.4
    assert not example.image[:, erased].any()
    assert example.image[:, ~erased].all()


def test_validation_examples_are_whole_and_never_random(folder, labels):
    spec = Spec(
        dataset=DatasetSection(
            image_size=64, task_prob_train={"instance": 1.0}, augmentation=Augmentation(rotation_prob=1.0)
        )
    )
    whole = for_validation(spec, folder.open(), labels)
    first, again = (whole.example(0, np.random.default_rng(seed)) for seed in (1, 2))
    assert first.image.shape == (3, 48, 64)  # of 24 x 32
    assert first.task is again.task is Task.INSTANCE
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert first.masks[:, ::2, ::2].sum(axis=(1, 2)).tolist() == [80, 140]


def test_validation_falls_back_to_a_task_that_is_not_trained(folder, labels):
    opened = folder.open()
    samples = Samples(opened.records, opened.load, [Task.SEMANTIC])
    spec = Spec(dataset=DatasetSection(task_prob_train={"instance": 1.0}))
    assert for_validation(spec, samples, labels).example(0, np.random.default_rng(0)).task is Task.SEMANTIC
