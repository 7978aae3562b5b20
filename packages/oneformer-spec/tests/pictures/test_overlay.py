from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from oneformer_spec.labels import Label, Labels, color
from oneformer_spec.pictures.captions import Caption, ink, place_captions
from oneformer_spec.pictures.overlay import overlay, segment_colors, variant
from oneformer_spec.results import Segment, Segmentation, bounding_box
from oneformer_spec.tasks import TASKS, Task

LABELS = Labels((Label(1, "cell", True, (220, 20, 60)), Label(2, "ground", False, (60, 120, 60))))


def segmentation(task: Task, ids: np.ndarray, categories: dict[int, int], score: float | None = 0.87) -> Segmentation:
    segments = []
    for number, category in categories.items():
        label = LABELS[LABELS.indices[category]]
        mask = ids == number
        own = None if task is Task.SEMANTIC else score
        segments.append(Segment(number, category, label.name, label.isthing, own, int(mask.sum()), bounding_box(mask)))
    return Segmentation(task, ids.astype(np.int32), tuple(segments))


@pytest.fixture
def cells() -> Segmentation:
    """Two cells on ground, the right third of the picture void."""
    ids = np.ones((120, 240), dtype=np.int32)
    ids[:, 160:] = 0
    ids[20:60, 20:60] = 2
    ids[70:110, 90:150] = 3
    return segmentation(Task.PANOPTIC, ids, {1: 2, 2: 1, 3: 1})


GRAY = np.full((120, 240, 3), 128, dtype=np.uint8)


def test_a_picture_keeps_its_size_and_its_void_pixels(cells):
    picture = overlay(GRAY, cells, LABELS)
    assert picture.shape == GRAY.shape
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[:, 162:], GRAY[:, 162:])


def test_the_same_result_gives_the_same_picture(cells):
    np.testing.assert_array_equal(overlay(GRAY, cells, LABELS), overlay(GRAY, cells, LABELS))


def test_stuff_is_tinted_with_the_colour_of_the_label_map(cells):
    pixel = overlay(GRAY, cells, LABELS)[118, 5].astype(int)
    step = (pixel - 128) / (np.array(LABELS[1].color) - 128)
    assert np.ptp(step) < 0.1, "the pixel lies on the line from the image's colour to the label's"
    assert 0.3 < step.mean() < 0.6


def test_an_outline_has_the_full_colour(cells):
    picture = overlay(GRAY, cells, LABELS)
    np.testing.assert_array_equal(picture[119, 159], LABELS[1].color)


@pytest.mark.parametrize("task", [Task.INSTANCE, Task.PANOPTIC])
def test_the_box_lies_on_the_edge_of_its_object(task):
    ids = np.zeros((120, 240), dtype=np.int32)
    rows, columns = np.mgrid[:120, :240]
    ids[(rows - 60) ** 2 + (columns - 120) ** 2 < 40**2] = 1
    result = segmentation(task, ids, {1: 1})
    x, y, width, height = result.segments[0].bbox
    picture = overlay(GRAY, result, LABELS)
    corners = picture[[y, y, y + height - 1, y + height - 1], [x, x + width - 1, x, x + width - 1]]
    np.testing.assert_array_equal(corners, [LABELS[0].color] * 4)
    np.testing.assert_array_equal(picture[y + height - 1, x + width + 1], GRAY[0, 0])


def test_the_semantic_task_has_no_boxes_and_the_colour_of_the_class():
    ids = np.full((120, 240), 2, dtype=np.int32)
    ids[20:40, 20:200], ids[60:100, 30:40] = 1, 1
    result = segmentation(Task.SEMANTIC, ids, {1: 1, 2: 2})
    assert segment_colors(result, LABELS) == {1: LABELS[0].color, 2: LABELS[1].color}
    tints = {tuple(pixel) for pixel in overlay(GRAY, result, LABELS)[101:104, 21:29].reshape(-1, 3)}
    assert len(tints) == 1, "no line crosses the ground"


def test_instances_of_a_class_have_colours_of_their_own(cells):
    colors = segment_colors(cells, LABELS)
    assert colors[1] == LABELS[1].color
    assert colors[2] == LABELS[0].color
    assert colors[3] == variant(LABELS[0].color, 1)


@pytest.mark.parametrize("base", [(220, 20, 60), (0, 0, 142), (128, 128, 128), (0, 0, 0), (255, 255, 255)])
def test_the_first_variants_of_a_colour_differ_visibly(base):
    family = [np.array(variant(base, number)) for number in range(5)]
    assert min(np.abs(one - other).max() for one, other in itertools.combinations(family, 2)) >= 20


CITYSCAPES = [
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
]


def test_instances_of_alike_classes_differ():
    families = [{variant(base, number) for number in range(12)} for base in CITYSCAPES]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(families, 2))


@pytest.mark.parametrize("level", [0, 60, 128, 255])
def test_the_instances_of_a_grey_class_stay_grey(level):
    assert all(np.ptp(variant((level,) * 3, number)) == 0 for number in range(20))


def test_an_instance_that_others_hide_leaves_no_trace():
    ids = np.ones((40, 40), dtype=np.int32)
    shown = segmentation(Task.INSTANCE, ids, {1: 1}).segments[0]
    hidden = Segment(9, 1, "cell", True, 0.5, 100, (5, 5, 10, 10))
    both, alone = (Segmentation(Task.INSTANCE, ids, segments) for segments in ((shown, hidden), (shown,)))
    np.testing.assert_array_equal(overlay(GRAY[:40, :40], both, LABELS), overlay(GRAY[:40, :40], alone, LABELS))


def test_the_box_of_the_better_instance_lies_on_top():
    ids = np.zeros((120, 240), dtype=np.int32)
    ids[20:100, 20:200] = 1
    ids[50:70, 199] = 2
    best = segmentation(Task.INSTANCE, ids, {1: 1}).segments[0]
    worse = Segment(2, 1, "cell", True, 0.5, best.area, (20, 20, 180, 80))
    picture = overlay(GRAY, Segmentation(Task.INSTANCE, ids, (best, worse)), LABELS)
    np.testing.assert_array_equal(picture[99, 30:190], [LABELS[0].color] * 160)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 40), (3, 3), (9, 9)])
def test_no_box_leaves_its_object_however_thick_the_line(height, width):
    ids = np.zeros((700, 800), dtype=np.int32)
    ids[300 : 300 + height, 400 : 400 + width] = 1
    image = np.full((700, 800, 3), 128, dtype=np.uint8)
    result = segmentation(Task.INSTANCE, ids, {1: 1})
    colored = (overlay(image, result, LABELS) == LABELS[0].color).all(axis=2)
    (plate,) = place_captions(ids, captions(result))
    colored[plate.window] = False
    assert colored.any()
    assert not (colored & (ids == 0)).any()


def test_lines_and_letters_grow_with_the_picture():
    ids = np.zeros((2560, 2560), dtype=np.int32)
    ids[400:2000, 400:2000] = 1
    result = segmentation(Task.INSTANCE, ids, {1: 1})
    picture = overlay(np.full((2560, 2560, 3), 128, dtype=np.uint8), result, LABELS)
    assert (picture[600, 380:420] == LABELS[0].color).all(axis=1).sum() == 5
    (plate,) = place_captions(ids, captions(result))
    assert plate.size == round(2560 / 45)
    semantic = overlay(np.full((2560, 2560, 3), 128, dtype=np.uint8), segmentation(Task.SEMANTIC, ids, {1: 1}), LABELS)
    assert (semantic[600, 380:420] == LABELS[0].color).all(axis=1).sum() == 2


def test_a_class_whose_letters_the_font_lacks_is_shown_by_its_id():
    ids = np.ones((120, 240), dtype=np.int32)
    pictures = []
    for name in ("車", "#1"):
        labels = Labels((Label(1, name, False, (220, 20, 60)),))
        segment = Segment(1, 1, name, False, None, ids.size, (0, 0, 240, 120))
        pictures.append(overlay(GRAY, Segmentation(Task.SEMANTIC, ids, (segment,)), labels))
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5), (16, 16)])
@pytest.mark.parametrize("task", TASKS)
def test_the_smallest_pictures_are_drawn(shape, task):
    picture = overlay(np.zeros((*shape, 3), np.uint8), segmentation(task, np.ones(shape), {1: 1}), LABELS)
    assert picture.shape == (*shape, 3)


def crowd() -> Segmentation:
    """80 cells of 12 pixels on 256 x 256."""
    ids = np.zeros((256, 256), dtype=np.int32)
    for number in range(80):
        row, column = divmod(number, 10)
        ids[5 + 30 * row : 17 + 30 * row, 4 + 25 * column : 16 + 25 * column] = number + 2
    ids[ids == 0] = 1
    return segmentation(Task.PANOPTIC, ids, {1: 2} | {number: 1 for number in range(2, 82)})


def captions(result: Segmentation) -> list[Caption]:
    return [
        Caption(one.id, one.name, "87%" if one.isthing else None, one.isthing, one.area, one.bbox, (0, 0, 0))
        for one in result.segments
    ]


@pytest.mark.parametrize("build", [crowd, lambda: segmentation(Task.PANOPTIC, np.ones((256, 256)), {1: 1})])
def test_plates_stay_inside_the_picture_and_apart(build):
    result = build()
    plates = place_captions(result.map, captions(result))
    covered = np.zeros(result.map.shape, dtype=int)
    for plate in plates:
        left, top, right, bottom = plate.box
        assert 0 <= left < right <= 256
        assert 0 <= top < bottom <= 256
        covered[plate.window] += 1
    assert covered.max() == 1


def test_many_small_objects_stay_visible():
    result = crowd()
    plates = place_captions(result.map, captions(result))
    covered = np.zeros(result.map.shape, dtype=bool)
    for plate in plates:
        covered[plate.window] = True
    assert covered.mean() < 0.15
    assert (covered & (result.map > 1)).sum() < 0.1 * (result.map > 1).sum()


def test_every_class_is_named_once_even_where_objects_are_small():
    result = crowd()
    texts = [plate.text for plate in place_captions(result.map, captions(result))]
    assert texts.count("ground") == 1
    assert sum("cell" in text for text in texts) == 1
    assert texts.count("87%") > 10


def test_small_objects_of_several_kinds_are_named_each():
    result = crowd()
    kinds = [replace(one, name="disc" if one.id % 2 else "cell") if one.isthing else one for one in captions(result)]
    texts = [plate.text for plate in place_captions(result.map, kinds)]
    assert all("cell" in text or "disc" in text or text == "ground" for text in texts)
    assert len(texts) > 10


@pytest.mark.parametrize("shape", [(300, 20000), (20000, 300)])
def test_no_object_of_a_long_strip_is_missed(shape):
    ids = np.zeros(shape, dtype=np.int32)
    length = ids.reshape(-1).size // 300
    along = ids if shape[1] == length else ids.T
    for number in range(40):
        along[120:140, 500 * number + 31 : 500 * number + 51] = number + 1
    result = segmentation(Task.INSTANCE, ids, dict.fromkeys(range(1, 41), 1))
    assert len(place_captions(ids, captions(result))) == 40


def test_an_object_between_the_cells_of_the_grid_has_a_caption():
    ids = np.zeros((2048, 2048), dtype=np.int32)
    ids[1001:1003, 1001:1003] = 1
    result = segmentation(Task.INSTANCE, ids, {1: 1})
    (plate,) = place_captions(ids, captions(result))
    assert abs(plate.box[0] - 1001) < 200


def test_a_large_object_has_its_name_and_score_inside():
    ids = np.zeros((300, 400), dtype=np.int32)
    ids[50:250, 100:350] = 1
    result = segmentation(Task.INSTANCE, ids, {1: 1})
    (plate,) = place_captions(result.map, captions(result))
    assert plate.text.split() == ["cell", "87%"]
    assert (result.map[plate.window] == 1).all()


def test_a_caption_of_a_ring_lies_on_the_ring():
    rows, columns = np.mgrid[:300, :300]
    radius = np.hypot(rows - 150, columns - 150)
    ids = np.where((radius > 80) & (radius < 145), 1, 0)
    result = segmentation(Task.SEMANTIC, ids, {1: 2})
    (plate,) = place_captions(result.map, captions(result))
    assert (ids[plate.window] == 1).all(), "the middle of its box is not on the object"


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """The contrast ratio of WCAG 2.1."""
    light = []
    for channels in (one, other):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in channels)]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(light) / min(light)


def test_text_is_readable_on_every_colour():
    colors = [color(number) for number in range(1, 201)]
    colors += [variant(base, number) for base in colors[:20] for number in range(8)]
    colors += [(level,) * 3 for level in range(0, 256, 5)]
    assert min(contrast(ink(each), each) for each in colors) > 4.5
