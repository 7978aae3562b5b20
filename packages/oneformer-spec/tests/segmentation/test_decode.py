"""`decode` against the three inference procedures of the published implementation, written out pixel by pixel."""

import numpy as np
import pytest

from oneformer_spec.errors import UsageError
from oneformer_spec.labels import Label, Labels
from oneformer_spec.segmentation import decode as decode_module
from oneformer_spec.segmentation import tiles
from oneformer_spec.segmentation.decode import Thresholds, decode
from oneformer_spec.segmentation.frame import Frame
from oneformer_spec.tasks import TASKS, Task

CASES_PER_TASK = 100
TIE = 1e-5  # two numbers this close, relative to their size, may be ordered either way in single precision


# ------------------------------------------------------------------------------------------------ the reference


def softmax(row):
    exponent = [np.exp(value - max(row)) for value in row]
    return [value / sum(exponent) for value in exponent]


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


def interpolate(masks, size):
    """Masks (Q, h, w) to `size` by bilinear interpolation, align_corners=False, one pixel after the other."""

    def taps(position, source, target):
        centre = max((position + 0.5) * source / target - 0.5, 0.0)
        low = min(int(centre), source - 1)
        return low, min(low + 1, source - 1), centre - low

    result = np.zeros((len(masks), *size))
    for y in range(size[0]):
        top, bottom, v = taps(y, masks.shape[1], size[0])
        for x in range(size[1]):
            left, right, u = taps(x, masks.shape[2], size[1])
            upper = (1 - u) * masks[:, top, left] + u * masks[:, top, right]
            lower = (1 - u) * masks[:, bottom, left] + u * masks[:, bottom, right]
            result[:, y, x] = (1 - v) * upper + v * lower
    return result


def at_original_size(mask_logits, frame):
    """Up to the padded input, the padding cut off, then to the original size."""
    height, width = frame.resized
    return interpolate(interpolate(mask_logits.astype(float), frame.padded)[:, :height, :width], frame.original)


def semantic_reference(class_logits, masks, labels):
    """Class ids (H, W), and which pixels are ties."""
    probabilities = np.array([softmax(row)[:-1] for row in class_logits])
    scores = np.einsum("qc,qhw->chw", probabilities, sigmoid(masks))
    return np.array([label.id for label in labels])[scores.argmax(axis=0)], tied(scores)


def tied(scores):
    """Pixels whose two largest scores (N, H, W) are as good as equal."""
    if len(scores) == 1:
        return np.zeros(scores.shape[1:], dtype=bool)
    second, first = np.sort(scores, axis=0)[-2:]
    return first - second <= TIE * first


def panoptic_reference(class_logits, masks, labels, thresholds):
    """Segment ids (H, W), segments as (id, category id, score), and which pixels are ties."""
    kept = []
    for query, row in enumerate(class_logits):
        probabilities = softmax(row)
        best = int(np.argmax(probabilities))
        if best != len(labels) and probabilities[best] > thresholds.object_mask:
            kept.append((query, best, probabilities[best]))
    id_map = np.zeros(masks.shape[1:], dtype=int)
    if not kept:
        return id_map, [], np.zeros(id_map.shape, dtype=bool)
    probabilities = np.array([sigmoid(masks[query]) for query, _, _ in kept])
    weighted = np.array([score * mask for (_, _, score), mask in zip(kept, probabilities, strict=True)])
    owner = weighted.argmax(axis=0)
    segments, stuff = [], {}
    for k, (_, best, score) in enumerate(kept):
        own = probabilities[k] >= 0.5
        final = (owner == k) & own
        if not final.any() or (owner == k).sum() / own.sum() < thresholds.overlap:
            continue
        label = labels[best]
        if not label.isthing and best in stuff:
            id_map[final] = number = stuff[best]
            segments[number - 1] = (number, label.id, max(segments[number - 1][2], score))
            continue
        segments.append((len(segments) + 1, label.id, score))
        id_map[final] = len(segments)
        if not label.isthing:
            stuff[best] = len(segments)
    return id_map, segments, tied(weighted)


def instance_reference(class_logits, masks, labels, thresholds, min_score):
    """Every instance as (score, category id, mask), best first."""
    pairs = [
        (probability, query, index)
        for query, row in enumerate(class_logits)
        for index, probability in enumerate(softmax(row)[:-1])
    ]
    pairs = sorted(pairs, key=lambda pair: -pair[0])[: thresholds.topk]
    found = []
    for probability, query, index in pairs:
        inside = masks[query] > 0
        if not labels[index].isthing or probability <= min_score or not inside.any():
            continue
        mean = (sigmoid(masks[query]) * inside).sum() / (inside.sum() + 1e-6)
        found.append((probability * mean, labels[index].id, inside))
    return sorted(found, key=lambda item: -item[0])


# --------------------------------------------------------------------------------------------------- the cases


def random_case(seed):
    rng = np.random.default_rng(seed)
    classes, queries = int(rng.integers(1, 8)), int(rng.integers(1, 12))
    labels = Labels(
        tuple(Label(int(i * 3 + 2), f"class {i}", bool(rng.integers(2)), (i, i, i)) for i in range(classes))
    )
    size = int(rng.integers(2, 9)), int(rng.integers(2, 9))
    padded = size[0] * 4, size[1] * 4
    resized = int(rng.integers(max(1, padded[0] // 2), padded[0] + 1)), int(rng.integers(1, padded[1] + 1))
    frame = Frame(tuple(int(edge) for edge in rng.integers(1, 80, size=2)), resized, padded)
    class_logits = rng.normal(size=(queries, classes + 1)).astype(np.float32) * rng.uniform(0.5, 6)
    mask_logits = (rng.normal(size=(queries, *size)) * rng.uniform(1, 12) + rng.uniform(-3, 3)).astype(np.float32)
    thresholds = Thresholds(
        object_mask=rng.uniform(0, 0.7), overlap=rng.uniform(0, 1), topk=int(rng.integers(1, 3 * queries))
    )
    return class_logits, mask_logits, at_original_size(mask_logits, frame), frame, labels, thresholds


@pytest.fixture(scope="module")
def cases():
    return [random_case(seed) for seed in range(CASES_PER_TASK)]


@pytest.fixture(params=["numpy", "torch", "torch as on an accelerator"])
def array(request, monkeypatch):
    """What makes logits of one library; the last computes in torch all the way, in an accelerator's large tiles."""
    if request.param == "numpy":
        return lambda values: values
    torch = pytest.importorskip("torch")
    if request.param != "torch":
        monkeypatch.setattr(decode_module, "on_host", lambda _: False)
        monkeypatch.setattr(tiles, "on_host", lambda _: False)
    return lambda values: torch.from_numpy(values.copy())


def test_semantic_is_the_published_procedure(cases, array):
    for class_logits, mask_logits, masks, frame, labels, thresholds in cases:
        result = decode(
            array(class_logits),
            array(mask_logits),
            task=Task.SEMANTIC,
            frame=frame,
            labels=labels,
            thresholds=thresholds,
        )
        expected, ties = semantic_reference(class_logits.astype(float), masks, labels)
        assert result.map.dtype == np.int32
        np.testing.assert_array_equal(result.map[~ties], expected[~ties])
        assert ties.mean() < 0.01 or len(labels) == 1
        assert [segment.id for segment in result.segments] == [
            label.id for label in labels if (result.map == label.id).any()
        ]


def test_panoptic_is_the_published_procedure(cases, array):
    found = 0
    for class_logits, mask_logits, masks, frame, labels, thresholds in cases:
        result = decode(
            array(class_logits),
            array(mask_logits),
            task=Task.PANOPTIC,
            frame=frame,
            labels=labels,
            thresholds=thresholds,
        )
        expected, segments, ties = panoptic_reference(class_logits.astype(float), masks, labels, thresholds)
        assert [(s.id, s.category_id) for s in result.segments] == [(number, kind) for number, kind, _ in segments]
        np.testing.assert_allclose([s.score for s in result.segments], [score for *_, score in segments], atol=1e-6)
        np.testing.assert_array_equal(result.map[~ties], expected[~ties])
        found += len(segments)
    assert found > CASES_PER_TASK  # the cases are not trivial


@pytest.mark.parametrize("min_score", [None, 0.0])
def test_instance_is_the_published_procedure(cases, array, min_score):
    found = 0
    for class_logits, mask_logits, masks, frame, labels, thresholds in cases:
        result = decode(
            array(class_logits),
            array(mask_logits),
            task=Task.INSTANCE,
            frame=frame,
            labels=labels,
            thresholds=thresholds,
            min_score=min_score,
        )
        smallest = thresholds.object_mask if min_score is None else min_score
        expected = instance_reference(class_logits.astype(float), masks, labels, thresholds, smallest)
        assert len(result.segments) == len(expected)
        for segment, (score, category_id, mask) in zip(result.segments, expected, strict=True):
            assert segment.category_id == category_id
            assert segment.score == pytest.approx(score, rel=1e-5)
            np.testing.assert_array_equal(segment.mask, mask)
        found += len(expected)
    assert found > CASES_PER_TASK


# ------------------------------------------------------------------------------------------- what users rely on

LABELS = Labels(
    (
        Label(10, "sky", False, (0, 0, 0)),
        Label(20, "cat", True, (0, 0, 0)),
        Label(30, "dog", True, (0, 0, 0)),
    )
)
FRAME = Frame((16, 16), (16, 16), (16, 16))


def masks_of(*boxes, size=16):
    """Logits +9 inside each box (top, bottom, left, right), -9 outside."""
    logits = np.full((len(boxes), size, size), -9.0, dtype=np.float32)
    for logit, (top, bottom, left, right) in zip(logits, boxes, strict=True):
        logit[top:bottom, left:right] = 9.0
    return logits


def logits_of(*classes, scale=9.0):
    """One row per query, certain of the class; None is "no object"."""
    logits = np.zeros((len(classes), len(LABELS) + 1), dtype=np.float32)
    for row, index in zip(logits, classes, strict=True):
        row[-1 if index is None else index] = scale
    return logits


def run(classes, boxes, task, **keywords):
    settings = {"frame": FRAME, "labels": LABELS, "thresholds": Thresholds()} | keywords
    class_logits = classes if isinstance(classes, np.ndarray) else logits_of(*classes)
    return decode(class_logits, masks_of(*boxes), task=task, **settings)


@pytest.mark.parametrize("task", TASKS)
def test_areas_and_boxes_are_those_of_the_pixels(task):
    logits = logits_of(0, 1, 2)
    logits[0] *= 0.5
    result = run(logits, ((0, 16, 0, 16), (2, 6, 3, 9), (8, 15, 8, 10)), task, thresholds=Thresholds(overlap=0.1))
    assert len(result.segments) == (2 if task is Task.INSTANCE else 3)
    for segment in result.segments:
        mask = result.map == segment.id if segment.mask is None else segment.mask
        rows, columns = np.nonzero(mask)
        assert segment.area == mask.sum()
        x, y, width, height = segment.bbox
        assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert all(type(number) is int for number in (segment.area, *segment.bbox))


@pytest.mark.parametrize("task", TASKS)
def test_segments_carry_their_label(task):
    cat = next(s for s in run((1,), ((0, 16, 0, 16),), task).segments if s.category_id == 20)
    assert (cat.name, cat.isthing, cat.score is None) == ("cat", True, task is Task.SEMANTIC)


def test_panoptic_merges_stuff_and_keeps_things_apart():
    boxes = ((0, 4, 0, 16), (12, 16, 0, 16), (5, 8, 0, 4), (5, 8, 8, 12))
    result = run((0, 0, 1, 1), boxes, Task.PANOPTIC)
    assert [s.category_id for s in result.segments] == [10, 20, 20]
    assert result.map[0, 0] == result.map[15, 15] == 1
    assert result.map[6, 1] != result.map[6, 9]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_merged_stuff_has_the_score_of_the_surest_query(order):
    logits = logits_of(0, 0)[list(order)]
    logits[order.index(1)] *= 0.5
    result = run(logits, ((0, 4, 0, 16), (12, 16, 0, 16)), Task.PANOPTIC)
    (segment,) = result.segments
    assert segment.score == pytest.approx(max(softmax(logits_of(0)[0])))
    assert segment.area == 2 * 4 * 16


def test_panoptic_drops_what_is_mostly_hidden():
    """The second query owns 4 of the 16 columns of its own mask."""
    logits = logits_of(1, 2)
    logits[1] *= 0.5
    boxes = ((0, 16, 0, 12), (0, 16, 0, 16))
    kept = run(logits, boxes, Task.PANOPTIC, thresholds=Thresholds(overlap=0.2))
    dropped = run(logits, boxes, Task.PANOPTIC, thresholds=Thresholds(overlap=0.3))
    assert [s.category_id for s in kept.segments] == [20, 30]
    assert [s.category_id for s in dropped.segments] == [20]
    assert (dropped.map[:, 12:] == 0).all()


def test_a_segment_of_which_exactly_the_threshold_is_visible_stays():
    """As published, a segment is dropped below the threshold, not at it."""
    logits = logits_of(1, 2)
    logits[1] *= 0.5
    boxes = ((0, 16, 0, 12), (0, 16, 0, 16))
    result = run(logits, boxes, Task.PANOPTIC, thresholds=Thresholds(overlap=0.25))  # 64 of 256 pixels
    assert [(s.category_id, s.area) for s in result.segments] == [(20, 192), (30, 64)]


@pytest.mark.parametrize("task", [Task.PANOPTIC, Task.INSTANCE])
def test_nothing_found_is_an_empty_map(task):
    result = run((None, None), ((0, 16, 0, 16), (2, 4, 2, 4)), task)
    assert result.segments == ()
    assert result.map.shape == (16, 16)
    assert not result.map.any()


def test_instances_are_only_things_and_never_empty():
    result = run((0, 1, 2), ((0, 16, 0, 16), (0, 4, 0, 4), (0, 0, 0, 0)), Task.INSTANCE)
    assert [s.category_id for s in result.segments] == [20]


def test_instances_fall_in_score_and_the_best_lies_on_top():
    logits = logits_of(1, 2)
    logits[0] *= 0.5
    result = run(logits, ((0, 10, 0, 10), (5, 15, 5, 15)), Task.INSTANCE, min_score=0.0)
    scores = [segment.score for segment in result.segments]
    assert scores == sorted(scores, reverse=True)
    assert result.segments[0].category_id == 30
    assert result.map[7, 7] == 1
    assert all(segment.area == segment.mask.sum() for segment in result.segments)


def test_min_score_keeps_the_weak_ones_for_average_precision():
    logits = logits_of(1, scale=0.5)  # the class has 0.35
    assert run(logits, ((0, 4, 0, 4),), Task.INSTANCE).segments == ()
    everything = run(logits, ((0, 4, 0, 4),), Task.INSTANCE, min_score=0.0).segments
    assert {segment.category_id for segment in everything} == {20, 30}


def test_topk_is_capped_by_queries_times_classes():
    result = run((1,), ((0, 4, 0, 4),), Task.INSTANCE, thresholds=Thresholds(topk=1000), min_score=0.0)
    assert len(result.segments) == 2


@pytest.mark.parametrize("task", TASKS)
def test_tiles_do_not_show(task, array):
    """A picture of many tiles, smooth so that whole tiles are decided by their bounds, against one tile."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:30, :40]
    centres = rng.uniform(0, 35, size=(12, 2))
    mask_logits = np.stack([8 - np.hypot(y - top, x - left) for top, left in centres]).astype(np.float32)
    class_logits = rng.normal(size=(12, 4)).astype(np.float32) * 3
    frame = Frame((117, 161), (118, 158), (120, 160))
    masks = at_original_size(mask_logits, frame)
    result = decode(
        array(class_logits),
        array(mask_logits),
        task=task,
        frame=frame,
        labels=LABELS,
        thresholds=Thresholds(overlap=0.3),
    )
    if task is Task.INSTANCE:
        expected = instance_reference(class_logits.astype(float), masks, LABELS, Thresholds(), 0.4)
        assert [segment.area for segment in result.segments] == [mask.sum() for *_, mask in expected]
        return
    reference = semantic_reference if task is Task.SEMANTIC else panoptic_reference
    extra = () if task is Task.SEMANTIC else (Thresholds(overlap=0.3),)
    expected, *_, ties = reference(class_logits.astype(float), masks, LABELS, *extra)
    np.testing.assert_array_equal(result.map[~ties], expected[~ties])
    assert len(np.unique(result.map)) > 1


def panoptic_of_tiles(class_logits, mask_logits, overlap, array):
    """Of a picture four tiles wide; `mask_logits` are those of each query in each tile, (Q, 4)."""
    wide = np.repeat(np.asarray(mask_logits, dtype=np.float32)[:, None].repeat(8, axis=1), 16, axis=2)
    frame = Frame((32, 256), (32, 256), (32, 256))
    thresholds = Thresholds(overlap=overlap)
    return decode(
        array(class_logits), array(wide), task=Task.PANOPTIC, frame=frame, labels=LABELS, thresholds=thresholds
    )


def test_a_query_that_owns_nothing_of_a_tile_still_covers_it(array):
    logits = logits_of(1, 2)
    logits[0] *= 0.5
    masks = [[4, 4, 4, 4], [4, 4, -20, -20]]  # the first owns half of what it covers
    assert [s.category_id for s in panoptic_of_tiles(logits, masks, 0.4, array).segments] == [20, 30]
    assert [s.category_id for s in panoptic_of_tiles(logits, masks, 0.6, array).segments] == [30]


def test_a_faint_query_that_wins_a_tile_leaves_it_empty(array):
    logits = logits_of(1, 2)
    logits[0] *= 0.2
    masks = [[4, 4, 0.2, 0.2], [-20, -20, -0.1, -0.1]]  # 0.55 and 0.48 where they meet, the second of the surer class
    result = panoptic_of_tiles(logits, masks, 0.4, array)
    assert [s.category_id for s in result.segments] == [20]
    assert result.map[:, :96].all() and not result.map[:, 160:].any()


@pytest.mark.parametrize("task", TASKS)
def test_extreme_logits_do_not_warn(task):
    mask_logits = masks_of((0, 8, 0, 16)) * 1e4
    result = decode(
        logits_of(1) * 1e4, mask_logits, task=task, frame=FRAME, labels=LABELS, thresholds=Thresholds(object_mask=0.1)
    )
    assert result.map[0, 0] == (20 if task is Task.SEMANTIC else 1)


@pytest.mark.parametrize("task", TASKS)
def test_a_diverged_model_finds_no_objects_and_does_not_crash_it(task):
    nan = np.full((2, 4), np.nan, dtype=np.float32)
    masks = np.full((2, 4, 4), np.nan, dtype=np.float32)
    result = decode(nan, masks, task=task, frame=FRAME, labels=LABELS, thresholds=Thresholds())
    assert result.map.shape == (16, 16)
    assert not any(segment.isthing for segment in result.segments)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("on_host", [True, False])
def test_half_precision_gradients_and_autocast_change_nothing(task, on_host, monkeypatch):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    class_logits = torch.tensor(rng.normal(size=(6, 4)) * 4).bfloat16()
    mask_logits = torch.tensor(rng.normal(size=(6, 8, 8)) * 9).bfloat16()
    settings = {"task": task, "frame": FRAME, "labels": LABELS, "thresholds": Thresholds(object_mask=0.1, overlap=0.1)}
    expected = decode(class_logits.float().numpy(), mask_logits.float().numpy(), **settings)
    for module in (decode_module, tiles):
        monkeypatch.setattr(module, "on_host", lambda _: on_host)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = decode(class_logits.requires_grad_(), mask_logits.requires_grad_(), **settings)
    np.testing.assert_array_equal(result.map, expected.map)
    assert [s.area for s in result.segments] == [s.area for s in expected.segments]


def test_a_plain_word_is_a_task():
    result = run((0,), ((0, 16, 0, 16),), "semantic")
    assert result.task is Task.SEMANTIC
    with pytest.raises(UsageError, match=r"^no task 'everything' is installed; available: semantic, "):
        run((0,), ((0, 16, 0, 16),), "everything")


def test_logits_of_other_labels_are_refused():
    with pytest.raises(ValueError, match=r"class_logits has 3 columns, 3 labels need 4"):
        run(np.zeros((1, 3), dtype=np.float32), ((0, 16, 0, 16),), Task.SEMANTIC)
