"""Evaluators: shards merge to the one-process result bit for bit, and an image counts once."""

from __future__ import annotations

import numpy as np
import pytest

from oneformer_data.metrics import ap, miou, pq
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.labels import Labels
from oneformer_spec.results import Segment, Segmentation, bounding_box
from oneformer_spec.tasks import Task

LABELS = Labels.parse(
    [
        {"id": 4, "name": "cat", "isthing": 1},
        {"id": 9, "name": "dog", "isthing": 1},
        {"id": 20, "name": "sky", "isthing": 0},
    ],
    source="labels",
)
MAKERS = {Task.SEMANTIC: miou.make, Task.INSTANCE: ap.make, Task.PANOPTIC: pq.make}


def blocks(rng: np.random.Generator) -> np.ndarray:
    """Ids 1..6 in blocks, with some void."""
    return np.kron(rng.integers(0, 7, (6, 8)), np.ones((5, 5), dtype=int)).astype(np.int32)


def make_sample(number: int) -> Sample:
    ids = blocks(np.random.default_rng([0, number]))
    segments = tuple(
        SegmentInfo(int(i), int(i) % 3, LABELS[int(i) % 3].isthing, is_crowd=bool(i == 6)) for i in np.unique(ids) if i
    )
    return Sample(f"{number}.png", number, np.zeros((*ids.shape, 3), np.uint8), ids[None], segments)


def predict(sample: Sample, task: Task, *, noise: bool = True) -> Segmentation:
    """The truth, with some of its blocks exchanged."""
    rng = np.random.default_rng([1, int(sample.image_id)])
    ids = sample.id_maps[0].copy()
    if noise:
        ids[:15] = blocks(rng)[:15]
    if task is Task.SEMANTIC:
        categories = np.array([0, *(LABELS[i % 3].id for i in range(1, 7))], dtype=np.int32)
        return Segmentation(task, categories[ids], ())
    segments = []
    for number in np.unique(ids[ids > 0]).tolist():
        label, mask = LABELS[number % 3], ids == number
        own_mask = mask if task is Task.INSTANCE else None
        score = float(rng.integers(1, 4)) / 4  # few values, so that many are equal
        segments.append(
            Segment(number, label.id, label.name, label.isthing, score, int(mask.sum()), bounding_box(mask), own_mask)
        )
    return Segmentation(task, ids, tuple(segments))


SAMPLES = [make_sample(number) for number in range(12)]


@pytest.mark.parametrize("task", list(Task))
def test_shards_in_any_order_give_the_same_bits(task):
    whole = MAKERS[task](LABELS)
    for sample in SAMPLES:
        whole.update(sample, predict(sample, task))
    shards = [MAKERS[task](LABELS) for _ in range(3)]
    for position, sample in enumerate([*reversed(SAMPLES), SAMPLES[0], SAMPLES[5]]):
        shards[position % 3].update(sample, predict(sample, task))
    merged = MAKERS[task](LABELS)
    for shard in shards:
        merged.merge(shard)
    assert merged.compute() == whole.compute()


@pytest.mark.parametrize("task", list(Task))
def test_the_truth_itself_scores_one(task):
    evaluator = MAKERS[task](LABELS)
    for sample in SAMPLES:
        evaluator.update(sample, predict(sample, task, noise=False))
    found = evaluator.compute()
    if task is Task.PANOPTIC:
        assert found["PQ"]["all"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 3}
    elif task is Task.INSTANCE:
        assert found["AP"]["AP"] == pytest.approx(1.0)
        assert found["AP"]["per_class"].keys() == {"4", "9"}
    else:
        assert found["mIoU"] == found["pixel_acc"] == 1.0


def test_nothing_gives_no_numbers():
    assert pq.make(LABELS).compute() == {"PQ": {"all": None, "things": None, "stuff": None, "per_class": {}}}
    assert ap.make(LABELS).compute()["AP"]["AP"] == -1.0
    assert miou.make(LABELS).compute() == {
        "mIoU": None,
        "fwIoU": None,
        "mAcc": None,
        "pixel_acc": None,
        "IoU_per_class": [None, None, None],
    }


def test_instances_without_any_prediction_score_zero():
    evaluator = ap.make(LABELS)
    for sample in SAMPLES:
        evaluator.update(sample, Segmentation(Task.INSTANCE, np.zeros_like(sample.id_maps[0]), ()))
    assert evaluator.compute()["AP"]["AP"] == 0.0


def test_instances_are_small_medium_or_large_by_their_pixels():
    """COCO's limits are 32 x 32 and 96 x 96 pixels; the small and the large cat are found, the medium one is not."""
    ids = np.zeros((200, 300), dtype=np.int32)
    for number, (left, side) in enumerate(((0, 31), (50, 60), (150, 120)), start=1):
        ids[:side, left : left + side] = number
    truth = tuple(SegmentInfo(number, 0, isthing=True, is_crowd=False) for number in (1, 2, 3))
    sample = Sample("a.png", 1, np.zeros((*ids.shape, 3), np.uint8), ids[None], truth)
    found = tuple(
        Segment(number, 4, "cat", True, 0.5, int((ids == number).sum()), bounding_box(ids == number), ids == number)
        for number in (1, 3)
    )
    evaluator = ap.make(LABELS)
    evaluator.update(sample, Segmentation(Task.INSTANCE, ids, found))
    scores = evaluator.compute()["AP"]
    assert [scores[name] for name in ("APs", "APm", "APl", "ARs", "ARm", "ARl")] == pytest.approx([1, 0, 1, 1, 0, 1])


def test_equal_scores_rank_in_the_order_of_the_image_ids():
    mask = np.zeros((20, 20), dtype=bool)
    mask[:10] = True
    truth = ap.Truth(4, ap.encode(mask), 200.0, is_crowd=False)
    right, wrong = ap.Predicted(4, ap.encode(mask), 0.5), ap.Predicted(4, ap.encode(~mask), 0.5)
    evaluator = ap.AveragePrecision([4])
    evaluator.add("10.png", ap.Instances(10, (20, 20), (), (wrong,)))
    evaluator.add("2.png", ap.Instances(2, (20, 20), (truth,), (right,)))
    assert evaluator.compute()["AP"]["AP"] == pytest.approx(1.0)


def test_an_ignored_value_may_be_that_of_a_class():
    evaluator = miou.SemanticScores(2)
    evaluator.add("a", np.array([[0, 1, 1, 1]]), np.array([[1, 0, 1, 1]]), ignore=0)
    assert evaluator.confusion().tolist() == [[0, 0, 0], [0, 2, 1]]


def test_a_prediction_of_another_size_is_refused():
    sample = SAMPLES[0]
    with pytest.raises(ValueError, match="the prediction is"):
        pq.make(LABELS).update(sample, Segmentation(Task.PANOPTIC, np.zeros((3, 3), np.int32), ()))


def test_void_pixels_of_a_semantic_prediction_are_wrong_and_no_class():
    truth = np.array([[1, 1, 2, 0]], dtype=np.int32)
    sample = Sample(
        "a",
        1,
        np.zeros((1, 4, 3), np.uint8),
        truth[None],
        (SegmentInfo(1, 0, True, False), SegmentInfo(2, 1, True, False)),
    )
    evaluator = miou.make(LABELS)
    evaluator.update(sample, Segmentation(Task.SEMANTIC, np.array([[4, 0, 9, 9]], dtype=np.int32), ()))
    found = evaluator.compute()
    assert found["IoU_per_class"] == [0.5, 1.0, None]
    assert found["mIoU"] == 0.75
    assert found["pixel_acc"] == pytest.approx(2 / 3)
    assert found["fwIoU"] == pytest.approx((2 * 0.5 + 1 * 1.0) / 3)
