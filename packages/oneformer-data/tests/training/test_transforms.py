from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_data.training import colors, transforms
from oneformer_data.training.cutmix import cutmix
from oneformer_data.training.targets import targets
from oneformer_spec.tasks import TASKS

PALETTE = {0: (0, 0, 0), 5: (255, 0, 0), 300: (0, 255, 0), 70_000: (0, 0, 255)}
FILL = (124, 116, 104)
SEGMENTS = tuple(SegmentInfo(number, 0, True, False) for number in (5, 300, 70_000))


def make_sample(ids: np.ndarray) -> Sample:
    """A sample whose pixels have the colour of their id."""
    image = np.zeros((*ids.shape, 3), dtype=np.uint8)
    for number, colour in PALETTE.items():
        image[ids == number] = colour
    return Sample("a.png", 1, image, ids[None].astype(np.int32), SEGMENTS)


def painted(height: int, width: int, seed: int) -> Sample:
    """A sample of rectangles."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((height, width), dtype=np.int32)
    for number in (70_000, 5, 300):
        top, left = rng.integers(height), rng.integers(width)
        ids[top : top + rng.integers(1, height + 1), left : left + rng.integers(1, width + 1)] = number
    return make_sample(ids)


def agreement(sample: Sample) -> float:
    """The share of pixels whose colour is nearest to that of their id."""
    colours = np.array(list(PALETTE.values()))
    nearest = np.abs(sample.image[:, :, None].astype(int) - colours).sum(-1).argmin(-1)
    return float((np.array(list(PALETTE))[nearest] == sample.id_maps[0]).mean())


def ramp(height: int, width: int) -> Sample:
    """A sample whose pixels say where they are: by colour (green down, red across) and by id."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns * 2, rows * 2, rows * 0], axis=-1).astype(np.uint8)
    return Sample("a.png", 1, image, (1 + rows * width + columns)[None].astype(np.int32), ())


sizes = st.integers(24, 90)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.floats(0.4, 3.0), st.integers(0, 2**32 - 1))
def test_a_pixel_and_its_id_come_from_the_same_place(height, width, scale, seed):
    rng = np.random.default_rng(seed)
    after = transforms.large_scale_jitter(ramp(height, width), rng, crop=(50, 60), min_scale=scale, max_scale=scale)
    rows, columns = np.divmod(after.id_maps[0] - 1, width)
    inner = np.s_[3:-3, 3:-3]  # at the border the filter sees only one side
    assert np.abs(after.image[..., 0] / 2 - columns)[inner].max(initial=0) <= 1
    assert np.abs(after.image[..., 1] / 2 - rows)[inner].max(initial=0) <= 1


def test_ids_take_the_pixel_in_the_middle():
    after = transforms.large_scale_jitter(
        ramp(9, 9), np.random.default_rng(0), crop=(9, 9), min_scale=1 / 3, max_scale=1 / 3
    )
    rows, columns = np.divmod(after.id_maps[0] - 1, 9)
    assert rows[:, 0].tolist() == columns[0].tolist() == [1, 4, 7]


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_scaling_and_cropping_move_picture_and_ids_alike(height, width, seed):
    before = painted(height, width, seed)
    rng = np.random.default_rng(seed)
    after = transforms.large_scale_jitter(before, rng, crop=(40, 56), min_scale=0.5, max_scale=2.5)
    assert after.id_maps.shape == (1, *after.size)
    assert after.size[0] <= 40
    assert after.size[1] <= 56
    assert after.segments == before.segments
    assert value_counts(after.id_maps).keys() <= value_counts(before.id_maps).keys()
    edges = (np.diff(after.id_maps[0], axis=0) != 0).sum() + (np.diff(after.id_maps[0], axis=1) != 0).sum()
    assert (1 - agreement(after)) * after.id_maps.size <= 2 * edges + 2


@settings(max_examples=20, deadline=None)
@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_flipping_mirrors_both(height, width, seed):
    before = painted(height, width, seed)
    after = transforms.flip(before, np.random.default_rng(seed), probability=1.0)
    assert agreement(after) == 1.0
    assert value_counts(after.id_maps) == value_counts(before.id_maps)
    assert np.array_equal(after.id_maps[0, :, 0], before.id_maps[0, :, -1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_colour_jitter_leaves_ids_and_size_alone(seed):
    before = painted(30, 40, seed)
    after = colors.color(before, np.random.default_rng(seed), probability=1.0)
    assert after.image.shape == before.image.shape
    assert after.image.dtype == np.uint8
    assert after.id_maps is before.id_maps


@pytest.mark.parametrize(
    "transform",
    [
        lambda sample, rng: transforms.large_scale_jitter(sample, rng, crop=(20, 20), min_scale=0.5, max_scale=2.0),
        lambda sample, rng: transforms.shortest_edge(sample, rng, crop=(20, 20), sizes=[16, 40], longest=60),
        lambda sample, rng: transforms.flip(sample, rng, probability=0.5),
        lambda sample, rng: transforms.rotate(sample, rng, probability=0.7, fill=FILL),
        lambda sample, rng: transforms.erase(sample, rng, probability=0.7, fill=FILL),
        lambda sample, rng: colors.color(sample, rng, probability=0.7),
        lambda sample, rng: colors.blur(sample, rng, probability=0.7),
        lambda sample, rng: cutmix(sample, painted(40, 30, 8), rng, fill=FILL),
    ],
)
def test_transforms_are_pure(transform):
    before = painted(33, 47, 3)
    image, ids = before.image.copy(), before.id_maps.copy()
    results = [transform(before, np.random.default_rng(seed)) for seed in (1, 1, 2, 3, 4, 5)]
    assert np.array_equal(before.image, image)
    assert np.array_equal(before.id_maps, ids)
    assert np.array_equal(results[0].image, results[1].image)
    assert np.array_equal(results[0].id_maps, results[1].id_maps)
    assert any(
        other.image.shape != results[0].image.shape or not np.array_equal(other.image, results[0].image)
        for other in results[2:]
    )


def test_scale_one_without_a_crop_changes_nothing():
    before = painted(30, 40, 5)
    after = transforms.large_scale_jitter(before, np.random.default_rng(0), crop=(30, 40), min_scale=1.0, max_scale=1.0)
    assert np.array_equal(after.image, before.image)
    assert np.array_equal(after.id_maps, before.id_maps)


@pytest.mark.parametrize(("scale", "size"), [(0.5, (15, 20)), (0.001, (1, 1)), (4.0, (30, 40))])
def test_the_scale_refers_to_the_crop_size(scale, size):
    after = transforms.large_scale_jitter(
        painted(60, 80, 1), np.random.default_rng(0), crop=(30, 40), min_scale=scale, max_scale=scale
    )
    assert after.size == size


def test_the_whole_picture_fits_into_the_scaled_crop_size():
    after = transforms.large_scale_jitter(
        painted(60, 80, 1), np.random.default_rng(0), crop=(30, 80), min_scale=1.0, max_scale=1.0
    )
    assert after.size == (30, 40)


def test_a_window_is_cut_from_everywhere():
    ids = np.zeros((10, 10), dtype=np.int32)
    ids[0, 0], ids[9, 9] = 5, 300
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        after = transforms.large_scale_jitter(make_sample(ids), rng, crop=(5, 5), min_scale=2.0, max_scale=2.0)
        seen |= value_counts(after.id_maps).keys()
    assert seen == {0, 5, 300}


def test_the_shortest_edge_takes_one_of_the_sizes_and_the_longest_is_capped():
    rng = np.random.default_rng(0)
    sizes = {
        transforms.shortest_edge(painted(40, 60, 1), rng, crop=(999, 999), sizes=[20, 50], longest=60).size
        for _ in range(20)
    }
    assert sizes == {(20, 30), (40, 60)}


def test_probability_zero_changes_nothing():
    sample, rng = painted(20, 20, 1), np.random.default_rng(0)
    assert transforms.flip(sample, rng, probability=0.0) is sample
    assert colors.color(sample, rng, probability=0.0) is sample


def test_colour_jitter_stays_within_the_limits_of_ssd():
    sample = make_sample(np.zeros((4, 4), dtype=np.int32))
    gray = Sample("a", 1, np.full((4, 4, 3), 100, np.uint8), sample.id_maps, ())
    values = [
        int(colors.color(gray, np.random.default_rng(seed), probability=1.0).image[0, 0, 0]) for seed in range(400)
    ]
    assert 33 <= min(values) < 60
    assert 170 < max(values) <= 199
    assert 60 < values.count(100) < 140  # a quarter has neither brightness nor contrast changed


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_a_rotation_turns_picture_and_ids_alike_and_uncovers_void(height, width, seed):
    before = ramp(height, width)
    after = transforms.rotate(before, np.random.default_rng(seed), probability=1.0, fill=FILL)
    ids = after.id_maps[0]
    assert (after.size, ids.dtype) == (before.size, np.int32)
    assert ids.min() >= 0
    assert ids.max() <= height * width  # ids of the sample or void; nothing in between, no 255
    rows, columns = np.divmod(ids - 1, width)
    inner = (ids > 0) & (after.image[..., 2] == 0)  # where no pixel of the fill colour was mixed in
    assert np.abs(after.image[..., 0] / 2 - columns)[inner].max(initial=0) <= 1
    assert np.abs(after.image[..., 1] / 2 - rows)[inner].max(initial=0) <= 1
    assert (after.image[0, 0] == FILL).all() == (ids[0, 0] == 0)
    middle = np.s_[height // 3 : -height // 3, width // 3 : -width // 3]
    assert (ids[middle] > 0).all()


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_what_is_erased_is_void_and_the_rest_stays(height, width, seed):
    before = painted(height, width, seed)
    after = transforms.erase(before, np.random.default_rng(seed), probability=1.0, fill=FILL)
    erased = (after.image == FILL).all(axis=-1)
    assert 0.01 <= erased.mean() <= 0.4
    assert not after.id_maps[0][erased].any()
    assert np.array_equal(after.id_maps[0][~erased], before.id_maps[0][~erased])
    assert np.array_equal(after.image[~erased], before.image[~erased])
    rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
    assert erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, sizes, sizes, st.integers(0, 2**32 - 1))
def test_cutmix_takes_every_pixel_with_its_segment_from_one_of_two_samples(height, width, tall, wide, seed):
    one, two = painted(height, width, seed), painted(tall, wide, seed + 1)
    mixed = cutmix(one, two, np.random.default_rng(seed), fill=FILL)
    assert mixed.size == (max(height, tall), max(width, wide))
    assert mixed.name == "a.png+a.png"
    ids = [segment.id for segment in mixed.segments]
    assert len(set(ids)) == len(ids) == 6
    assert value_counts(mixed.id_maps).keys() <= {0, *ids}
    taken = mixed.id_maps[0] > 70_000
    filled = (mixed.image == FILL).all(axis=-1)
    assert not mixed.id_maps[0][filled].any()
    colours = np.array([PALETTE[number] for number in PALETTE])
    numbers = np.where(taken, mixed.id_maps[0] - 70_000, mixed.id_maps[0])
    wanted = colours[np.searchsorted(list(PALETTE), numbers)]
    assert (mixed.image == wanted).all(axis=-1)[~filled].all()  # colour and id come from the same place
    outside = np.ones(mixed.size, dtype=bool)
    outside[:tall, :wide] = False
    assert not (taken & outside).any()


def test_cutmix_fills_what_neither_sample_covers():
    """Of one larger and one wider sample the corner that both lack is the fill colour, and void."""
    tall = replace(painted(60, 20, 1), id_maps=np.full((1, 60, 20), 5, dtype=np.int32))
    wide = replace(painted(10, 80, 2), id_maps=np.full((1, 10, 80), 300, dtype=np.int32))
    filled = 0
    for seed in range(20):
        mixed = cutmix(tall, wide, np.random.default_rng(seed), fill=FILL)
        nothing = mixed.id_maps[0] == 0
        assert nothing[10:, 20:].all()
        assert (mixed.image[nothing] == FILL).all()
        assert not (mixed.image[~nothing] == FILL).all(axis=-1).any()
        filled += nothing.sum()
    assert filled > 20 * 50 * 60


def test_cutmix_takes_its_rectangle_from_the_partner_however_small():
    """Never from its padding: what lay under the rectangle would become void."""
    one = replace(painted(60, 80, 1), id_maps=np.full((1, 60, 80), 5, dtype=np.int32))
    two = replace(painted(12, 9, 2), id_maps=np.full((1, 12, 9), 300, dtype=np.int32))
    for seed in range(30):
        mixed = cutmix(one, two, np.random.default_rng(seed), fill=FILL)
        assert (mixed.id_maps > 0).all()


def test_cutmix_keeps_layers_and_crowds():
    one = painted(20, 30, 1)
    crowd = SegmentInfo(5, 0, isthing=True, is_crowd=True)
    two = replace(painted(20, 30, 2), id_maps=np.full((2, 20, 30), 5, dtype=np.int32), segments=(crowd,))
    mixed = cutmix(one, two, np.random.default_rng(3), fill=FILL)
    assert mixed.id_maps.shape == (2, 20, 30)
    assert mixed.segments[-1] == SegmentInfo(70_005, 0, isthing=True, is_crowd=True)
    assert np.array_equal(mixed.id_maps[0] == 70_005, mixed.id_maps[1] == 70_005)
    assert (mixed.id_maps[0] == 70_005).any()


def test_an_erased_area_is_between_2_and_33_percent_of_any_shape_from_flat_to_tall():
    before = make_sample(np.full((200, 200), 5))
    areas, aspects = [], []
    for seed in range(400):
        after = transforms.erase(before, np.random.default_rng(seed), probability=1.0, fill=FILL)
        erased = after.id_maps[0] == 0
        areas.append(erased.mean())
        aspects.append(erased.any(axis=1).sum() / erased.any(axis=0).sum())
    assert 0.019 < min(areas) < 0.025
    assert 0.32 < max(areas) < 0.335
    assert 0.16 < np.mean(areas) < 0.19  # uniform
    assert 0.29 < min(aspects) < 0.35
    assert 2.9 < max(aspects) < 3.4
    assert 0.85 < np.exp(np.mean(np.log(aspects))) < 1.15  # as often flat as tall


def test_a_blur_has_a_radius_between_a_tenth_and_two_pixels():
    """The edge between black and white becomes the Gaussian's integral; its slope has the Gaussian's deviation."""
    image = np.zeros((3, 40, 3), dtype=np.uint8)
    image[:, 20:] = 255
    before = Sample("a.png", 1, image, np.ones((1, 3, 40), dtype=np.int32), ())
    places, deviations = np.arange(39), []
    for seed in range(200):
        after = colors.blur(before, np.random.default_rng(seed), probability=1.0)
        slope = np.diff(after.image[1, :, 0].astype(float)) / 255
        middle = (slope * places).sum()
        deviations.append(float(np.sqrt((slope * (places - middle) ** 2).sum())))
    assert min(deviations) < 0.2
    assert 1.85 < max(deviations) < 2.1
    assert 0.9 < np.mean(deviations) < 1.2  # uniform


def test_a_blur_softens_edges_alone():
    before = painted(40, 50, 4)
    after = colors.blur(before, np.random.default_rng(0), probability=1.0)
    assert after.id_maps is before.id_maps
    assert (
        np.abs(np.diff(after.image.astype(int), axis=1)).max() < np.abs(np.diff(before.image.astype(int), axis=1)).max()
    )


def test_a_crop_that_one_class_fills_is_drawn_anew():
    """Of all windows 1 in 50 has a quarter of a second class; ten draws find one far more often than one draw."""
    ids = np.full((20, 600), 70_000)
    ids[:, :20] = 5
    sample = replace(make_sample(ids), segments=(SegmentInfo(5, 1, True, False), SegmentInfo(70_000, 0, False, False)))
    windows = [
        transforms.shortest_edge(sample, np.random.default_rng(seed), crop=(20, 40), sizes=[20], longest=600)
        for seed in range(100)
    ]
    shares = [value_counts(window.id_maps).get(5, 0) / window.id_maps.size for window in windows]
    assert sum(0.25 <= share <= 0.75 for share in shares) > 8  # single draws find 2


@st.composite
def annotated(draw) -> Sample:
    """A sample with void, crowds, two classes of things and one of stuff."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = np.zeros((32, 40), dtype=np.int32)
    segments = []
    for number in range(1, draw(st.integers(2, 9))):
        top, left = rng.integers(32), rng.integers(40)
        ids[top : top + rng.integers(1, 33), left : left + rng.integers(1, 41)] = number
        kind = int(rng.integers(3))
        segments.append(SegmentInfo(number, kind, isthing=kind < 2, is_crowd=bool(kind < 2 and rng.random() < 0.3)))
    return replace(make_sample(ids), id_maps=ids[None], segments=tuple(segments))


@settings(max_examples=60, deadline=None)
@given(annotated(), annotated(), st.integers(0, 2**32 - 1))
def test_the_targets_of_the_three_tasks_agree_after_every_augmentation(sample, other, seed):
    rng = np.random.default_rng(seed)
    sample = transforms.large_scale_jitter(sample, rng, crop=(24, 32), min_scale=0.5, max_scale=2.0)
    sample = transforms.flip(sample, rng, probability=0.5)
    sample = transforms.rotate(sample, rng, probability=0.5, fill=FILL)
    sample = transforms.erase(sample, rng, probability=0.5, fill=FILL)
    if rng.random() < 0.5:
        sample = cutmix(sample, other, rng, fill=FILL)
    semantic, instance, panoptic = (targets(sample, task) for task in TASKS)
    void = (sample.id_maps == 0).all(axis=0)
    crowd = np.isin(sample.id_maps[0], [segment.id for segment in sample.segments if segment.is_crowd])
    for found in (semantic, instance, panoptic):
        assert not (found.masks & void).any()
        assert found.masks.any(axis=(1, 2)).all()
    assert (semantic.masks.sum(axis=0) == ~void).all()  # every labelled pixel has one class
    assert (panoptic.masks.sum(axis=0) == (~void & ~crowd)).all()
    things = panoptic.labels < 2
    assert sorted(map(bytes, panoptic.masks[things])) == sorted(map(bytes, instance.masks))
    assert sorted(panoptic.labels[things]) == sorted(instance.labels)
    for label, mask in zip(semantic.labels, semantic.masks, strict=True):
        assert (mask & ~crowd == panoptic.masks[panoptic.labels == label].any(axis=0)).all()
    assert (panoptic.labels == 2).sum() <= 1
