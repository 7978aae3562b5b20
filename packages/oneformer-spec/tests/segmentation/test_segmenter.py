"""A segmenter gives each picture the same answer whatever else is in the batch."""

import numpy as np
import pytest

from oneformer_spec.labels import Labels
from oneformer_spec.segmentation.frame import FitInto, ShortestEdge
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.tasks import TASKS, Task, task_row

LABELS = Labels.parse(
    [{"id": 11, "name": "dark", "isthing": 0}, {"id": 12, "name": "red", "isthing": 1}], source="labels"
)
SIZES = ((40, 60), (60, 40), (33, 50), (40, 60), (100, 20), (41, 60), (8, 8))


def manifest(**changes):
    fields = {
        "labels": LABELS,
        "model": {},
        "mean": (0.0, 0.0, 0.0),
        "std": (255.0, 255.0, 255.0),
        "size": ShortestEdge(48, 96),
        "divisibility": 32,
    }
    return Manifest(**fields | changes)


class Network:
    """Two queries, "dark" and "red", whose masks are the picture's own colours, and a record of its inputs."""

    def __init__(self):
        self.calls = []

    def __call__(self, image, task_tokens):
        self.calls.append((image, task_tokens))
        assert image.dtype == task_tokens.dtype == np.float32
        red = image[:, 0].reshape(len(image), image.shape[2] // 4, 4, image.shape[3] // 4, 4).mean(axis=(2, 4))
        mask_logits = np.stack([4 - 10 * red, 10 * red - 4], axis=1)  # (B, Q, H / 4, W / 4)
        class_logits = np.tile(np.float32([[[6, 0, 0], [0, 6, 0]]]), (len(image), 1, 1))
        return class_logits, mask_logits


def pictures():
    rng = np.random.default_rng(0)
    found = []
    for height, width in SIZES:
        image = np.zeros((height, width, 3), dtype=np.uint8)
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        image[top : top + height // 2, left : left + width // 2, 0] = 255
        found.append(image)
    return found


def assert_same(first, second):
    assert first.task == second.task
    np.testing.assert_array_equal(first.map, second.map)
    assert first.segments == second.segments
    for a, b in zip(first.segments, second.segments, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("fixed_batch", [None, 1, 3])
def test_the_company_of_a_picture_changes_nothing(task, fixed_batch):
    segmenter = Segmenter(Network(), manifest(), fixed_batch=fixed_batch)
    alone = [segmenter.predict([image], task)[0] for image in pictures()]
    for order in (range(len(SIZES)), reversed(range(len(SIZES))), (3, 0, 3)):
        order = list(order)
        together = segmenter.predict([pictures()[i] for i in order], task)
        for i, result in zip(order, together, strict=True):
            assert result.map.shape == SIZES[i]
            assert_same(result, alone[i])


@pytest.mark.parametrize("task", TASKS)
def test_it_finds_what_is_there(task):
    image = pictures()[0]
    result = Segmenter(Network(), manifest()).predict([image], task)[0]
    red = next(segment for segment in result.segments if segment.category_id == 12)
    assert abs((result.map == red.id).sum() - 20 * 30) < 60
    assert {segment.name for segment in result.segments} == ({"red"} if task is Task.INSTANCE else {"dark", "red"})


def test_pictures_of_one_padded_size_share_a_call():
    network = Network()
    Segmenter(network, manifest()).predict(pictures(), Task.SEMANTIC)
    shapes = [image.shape for image, _ in network.calls]
    assert len(shapes) == len({shape[2:] for shape in shapes})
    assert sum(shape[0] for shape in shapes) == len(SIZES)


def test_a_fixed_batch_is_filled_with_empty_pictures():
    network = Network()
    results = Segmenter(network, manifest(), fixed_batch=4).predict(pictures(), Task.SEMANTIC)
    assert len(results) == len(SIZES)
    for image, tokens in network.calls:
        assert len(image) == len(tokens) == 4
    assert not network.calls[-1][0][-1].any()


def test_a_fixed_size_takes_every_picture_and_wins_over_a_rule():
    network = Network()
    segmenter = Segmenter(network, manifest(fixed_size=(64, 96)))
    results = segmenter.predict(pictures(), Task.SEMANTIC, rule=FitInto(500, 500))
    assert [image.shape for image, _ in network.calls] == [(len(SIZES), 3, 64, 96)]
    assert [result.map.shape for result in results] == list(SIZES)


def test_a_rule_replaces_the_manifests():
    network = Network()
    Segmenter(network, manifest()).predict(pictures()[:1], Task.SEMANTIC, rule=FitInto(height=128, width=128))
    assert network.calls[0][0].shape == (1, 3, 96, 128)


@pytest.mark.parametrize("task", TASKS)
def test_each_picture_comes_with_the_tokens_of_the_manifest(task):
    network = Network()
    rows = {each: [len(each), *task_row(each, 9)] for each in TASKS}
    Segmenter(network, manifest(task_tokens=rows)).predict(pictures()[:1] * 2, task)
    np.testing.assert_array_equal(network.calls[0][1], np.float32([rows[task], rows[task]]))


def test_min_score_reaches_decode():
    segmenter = Segmenter(Network(), manifest())
    image = pictures()[:1]
    assert len(segmenter.predict(image, Task.INSTANCE)[0].segments) == 1
    assert len(segmenter.predict(image, Task.INSTANCE, min_score=0.0)[0].segments) == 2


def test_no_pictures_no_calls():
    network = Network()
    assert Segmenter(network, manifest()).predict([], Task.PANOPTIC) == []
    assert network.calls == []
