from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneformer_data.sample import Sample, SegmentInfo
from oneformer_data.training.targets import targets, texts
from oneformer_spec.tasks import TASKS, Task

THING, STUFF, OTHER = 0, 1, 2
SEGMENTS = (
    SegmentInfo(1, THING, isthing=True, is_crowd=False),
    SegmentInfo(2, THING, isthing=True, is_crowd=False),
    SegmentInfo(3, THING, isthing=True, is_crowd=True),
    SegmentInfo(4, STUFF, isthing=False, is_crowd=False),
    SegmentInfo(5, STUFF, isthing=False, is_crowd=False),
    SegmentInfo(6, OTHER, isthing=True, is_crowd=False),  # has no pixel
)
IDS = np.array([[1, 1, 2, 3], [4, 5, 0, 3]], dtype=np.int32)


def sample(ids: np.ndarray) -> Sample:
    return Sample("a", 1, np.zeros((*ids.shape[-2:], 3), np.uint8), ids if ids.ndim == 3 else ids[None], SEGMENTS)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task.SEMANTIC, [(THING, {1, 2, 3}), (STUFF, {4, 5})]),
        (Task.INSTANCE, [(THING, {1}), (THING, {2})]),
        (Task.PANOPTIC, [(THING, {1}), (THING, {2}), (STUFF, {4, 5})]),
    ],
)
def test_each_task_has_its_own_targets(task, expected):
    found = targets(sample(IDS), task)
    assert found.labels.dtype == np.int64
    assert found.masks.dtype == np.bool_
    assert found.labels.tolist() == [label for label, _ in expected]
    for mask, (_, ids) in zip(found.masks, expected, strict=True):
        assert np.array_equal(mask, np.isin(IDS, list(ids)))


def test_overlapping_instances_lie_in_layers_of_their_own():
    ids = np.array([[[1, 1, 0]], [[0, 2, 2]]], dtype=np.int32)
    found = targets(sample(ids), Task.INSTANCE)
    assert found.masks.tolist() == [[[True, True, False]], [[False, True, True]]]


@pytest.mark.parametrize("task", TASKS)
def test_padding_belongs_to_no_mask(task):
    found, padded = targets(sample(IDS), task), targets(sample(IDS), task, padded=(5, 7))
    assert np.array_equal(padded.masks, np.pad(found.masks, ((0, 0), (0, 3), (0, 3))))
    assert np.array_equal(padded.labels, found.labels)


def test_a_picture_of_void_has_no_targets():
    found = targets(sample(np.zeros((4, 6), dtype=np.int32)), Task.PANOPTIC)
    assert found.labels.shape == (0,)
    assert found.masks.shape == (0, 4, 6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=6))
def test_the_targets_of_the_three_tasks_agree(rows):
    ids = np.array(rows, dtype=np.int32)
    semantic, instance, panoptic = (targets(sample(ids), task) for task in TASKS)
    for found in (semantic, instance, panoptic):
        assert found.masks.any(axis=(1, 2)).all()
        assert found.masks.sum(axis=0).max(initial=0) <= 1
        assert not found.masks[:, ids == 0].any()
    assert len(set(semantic.labels.tolist())) == len(semantic.labels)
    without_crowds = np.where(ids == 3, 0, ids)
    assert np.array_equal(panoptic.masks.any(axis=0), without_crowds > 0)
    assert np.array_equal(semantic.masks.any(axis=0), ids > 0)
    things = panoptic.labels == THING
    assert np.array_equal(panoptic.masks[things], instance.masks)
    stuff = semantic.labels == STUFF
    assert np.array_equal(panoptic.masks[panoptic.labels == STUFF], semantic.masks[stuff])


def test_texts_name_the_targets_and_fill_up_with_the_task():
    assert texts(Task.INSTANCE, ["dog", "dog"], 4) == [
        "a photo with a dog",
        "a photo with a dog",
        "an instance photo",
        "an instance photo",
    ]
    assert texts(Task.SEMANTIC, [], 1) == ["a semantic photo"]
    assert texts(Task.PANOPTIC, ["a", "b", "c"], 2) == ["a photo with a a", "a photo with a b"]
    assert texts(Task.PANOPTIC, [], 1) == ["a panoptic photo"]
