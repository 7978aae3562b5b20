"""Cityscapes, ADE20K, Pascal VOC and LabelMe as sources: their conventions on tiny files."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_tools

from oneformer_data.convert import ade20k, cityscapes, labelme, voc
from oneformer_data.convert.class_masks import known_labels
from oneformer_data.convert.conversion import convert
from oneformer_data.convert.outputs import OutputFormat
from oneformer_data.convert.shapes import rasterise
from oneformer_data.opening.loading import open_source
from oneformer_data.opening.sources import Source
from oneformer_spec.errors import DataError

SIZE = (6, 8)


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(path)


def gray(path, values, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=dtype)).save(path)


def palette(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, dtype=np.uint8)).convert("P")
    image.putdata(np.asarray(values).ravel().tolist())
    image.putpalette([number * 7 % 256 for number in range(768)])
    image.save(path)


def segments(sample, labels):
    """Name, pixels and crowd of each segment."""
    return [
        (labels[segment.class_index].name, int((sample.id_maps == segment.id).sum()), segment.is_crowd)
        for segment in sample.segments
    ]


def first(pictures):
    return pictures.loads[0]()


@pytest.fixture
def city(tmp_path):
    """A road, a caravan (no class of the benchmark), two cars, a group of bicycles, and a stretch out of roi."""
    ids = np.full(SIZE, 7)
    ids[0, :2], ids[1, :3], ids[2, :4], ids[3, :5], ids[4, :6] = 26000, 26001, 33, 29000, 3
    picture(tmp_path / "images" / "bonn" / "bonn_000001_000019_leftImg8bit.png")
    gray(tmp_path / "masks" / "bonn" / "bonn_000001_000019_gtFine_instanceIds.png", ids, np.uint16)
    gray(tmp_path / "masks" / "bonn" / "bonn_000001_000019_gtFine_color.png", ids % 256)
    classes = np.where(ids >= 1000, ids // 1000, ids)
    gray(tmp_path / "masks" / "bonn" / "bonn_000001_000019_gtFine_labelIds.png", classes)
    return tmp_path


def test_cityscapes_tells_objects_groups_and_void_apart(city):
    pictures = cityscapes.read(city / "images", city / "masks")
    sample = first(pictures)
    assert sample.name == "bonn/bonn_000001_000019_leftImg8bit.png"
    assert segments(sample, pictures.labels) == [
        ("road", 48 - 20, False),
        ("bicycle", 4, True),
        ("car", 2, False),
        ("car", 3, False),
    ]
    assert (sample.id_maps == 0).sum() == 5 + 6
    assert pictures.formats == tuple(OutputFormat)


def test_cityscapes_without_instance_ids_serves_for_classes(city):
    (city / "masks" / "bonn" / "bonn_000001_000019_gtFine_instanceIds.png").unlink()
    pictures = cityscapes.read(city / "images", city / "masks")
    assert pictures.formats == (OutputFormat.SEMANTIC,)
    names = {name: pixels for name, pixels, _ in segments(first(pictures), pictures.labels)}
    assert names == {"road": 28, "car": 5, "bicycle": 4}


@pytest.mark.parametrize("value", [34, 999, 7000, 23999, 34000, 65535])
def test_cityscapes_knows_no_other_values(city, value):
    path = city / "masks" / "bonn" / "bonn_000001_000019_gtFine_instanceIds.png"
    gray(path, np.full(SIZE, value), np.uint16)
    with pytest.raises(DataError, match=rf"instanceIds\.png: value {value} \(48 pixels\): expected label ids 0\.\.33"):
        first(cityscapes.read(city / "images", city / "masks"))


def test_ade20k_classes_keep_their_numbers(tmp_path):
    picture(tmp_path / "images" / "training" / "ADE_train_00000001.jpg")
    values = np.zeros(SIZE)
    values[0], values[1] = 150, 1
    gray(tmp_path / "masks" / "training" / "ADE_train_00000001.png", values)
    pictures = ade20k.read(tmp_path / "images", tmp_path / "masks")
    assert segments(first(pictures), pictures.labels) == [("wall", 8, False), ("flag", 8, False)]
    assert pictures.formats == (OutputFormat.SEMANTIC,)
    gray(tmp_path / "masks" / "training" / "ADE_train_00000001.png", np.full(SIZE, 151))
    with pytest.raises(DataError, match=r"value 151 \(48 pixels\): expected classes 0\.\.150"):
        first(pictures)


@pytest.fixture
def pascal(tmp_path):
    """Two dogs side by side with void between, on background; a second picture that the list leaves out."""
    classes, objects = np.zeros(SIZE), np.zeros(SIZE)
    classes[:3, :6], objects[:3, :2], objects[:3, 3:6] = 12, 1, 2
    classes[:3, 2] = objects[:3, 2] = 255
    for name in ("2007_000032", "2007_000039"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        palette(tmp_path / "SegmentationClass" / f"{name}.png", classes)
        palette(tmp_path / "SegmentationObject" / f"{name}.png", objects)
    picture(tmp_path / "JPEGImages" / "without_a_mask.jpg")
    (tmp_path / "train.txt").write_text("2007_000039\n")
    return tmp_path


def open_voc(root, *, objects=True, names=None):
    folder = root / "SegmentationObject" if objects else None
    return voc.read(root / "JPEGImages", root / "SegmentationClass", objects=folder, names=names)


def test_voc_objects_have_classes_and_background_is_one(pascal):
    pictures = open_voc(pascal)
    assert len(pictures.loads) == 2
    assert segments(first(pictures), pictures.labels) == [
        ("dog", 6, False),
        ("dog", 9, False),
        ("background", 30, False),
    ]
    assert (first(pictures).id_maps == 0).sum() == 3
    assert pictures.formats == tuple(OutputFormat)


def test_voc_without_objects_serves_for_classes(pascal):
    pictures = open_voc(pascal, objects=False)
    assert segments(first(pictures), pictures.labels) == [("dog", 15, False), ("background", 30, False)]
    assert pictures.formats == (OutputFormat.SEMANTIC,)


def test_a_voc_object_is_of_the_class_that_most_of_its_pixels_have(pascal):
    classes = np.asarray(Image.open(pascal / "SegmentationClass" / "2007_000032.png")).copy()
    classes[0, 3:5] = 8
    palette(pascal / "SegmentationClass" / "2007_000032.png", classes)
    pictures = open_voc(pascal)
    assert segments(first(pictures), pictures.labels)[1] == ("dog", 9, False)
    classes[:3, 3:6] = 0
    palette(pascal / "SegmentationClass" / "2007_000032.png", classes)
    with pytest.raises(DataError, match="object 2 covers background alone"):
        first(open_voc(pascal))


def test_what_is_void_in_one_of_the_voc_masks_is_void(pascal):
    for folder, place in (("SegmentationClass", (0, 0)), ("SegmentationObject", (0, 5))):
        values = np.asarray(Image.open(pascal / folder / "2007_000032.png")).copy()
        values[place] = 255
        palette(pascal / folder / "2007_000032.png", values)
    pictures = open_voc(pascal)
    found = [("dog", 5, False), ("dog", 8, False), ("background", 30, False)]
    assert segments(first(pictures), pictures.labels) == found


def test_voc_lists_choose_pictures(pascal):
    (load,) = open_voc(pascal, names=pascal / "train.txt").loads
    assert load().name == "2007_000039.jpg"
    (pascal / "train.txt").write_text("2007_000039\n2007_000040\n")
    with pytest.raises(DataError, match=r"train\.txt: 2007_000040 has no mask"):
        open_voc(pascal, names=pascal / "train.txt")
    with pytest.raises(DataError, match=r"val\.txt: does not exist"):
        open_voc(pascal, names=pascal / "val.txt")


@pytest.mark.parametrize("value", [21, 254])
def test_voc_knows_no_other_classes(pascal, value):
    palette(pascal / "SegmentationClass" / "2007_000032.png", np.full(SIZE, value))
    with pytest.raises(DataError, match=rf"value {value} \(48 pixels\): expected classes 0\.\.20, or 255"):
        first(open_voc(pascal))


def test_masks_and_pictures_must_fit(pascal):
    picture(pascal / "JPEGImages" / "2007_000032.jpg", size=(8, 6))
    with pytest.raises(DataError, match=r"2007_000032\.png: is 8x6 but the image is 6x8"):
        first(open_voc(pascal))
    (pascal / "JPEGImages" / "2007_000032.jpg").unlink()
    with pytest.raises(DataError, match=r"2007_000032\.png: has no image below .*JPEGImages \(1 masks have none\)"):
        open_voc(pascal)
    picture(pascal / "JPEGImages" / "2007_000032.jpg")
    picture(pascal / "JPEGImages" / "2007_000032.png")
    with pytest.raises(DataError, match=r"2007_000032\.jpg and 2007_000032\.png cannot be told apart"):
        open_voc(pascal)


def test_folders_must_hold_masks(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="masks: contains no masks"):
        ade20k.read(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(DataError, match="nothing: does not exist"):
        cityscapes.read(tmp_path / "images", tmp_path / "nothing")


@pytest.mark.parametrize(("name", "count", "things"), [("cityscapes", 19, 8), ("ade20k", 150, 0), ("voc", 21, 20)])
def test_known_classes_are_complete(name, count, things):
    labels = known_labels(name)
    assert (len(labels), sum(label.isthing for label in labels)) == (count, things)


def shape(label, points, kind="polygon", group=None):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group}


SQUARE = [[1, 1], [4, 1], [4, 4], [1, 4]]


@pytest.fixture
def labelled(tmp_path):
    """A cat of two parts, another cat in front of it, and a sofa, in a subfolder."""
    picture(tmp_path / "images" / "home" / "a.jpg")
    document = {
        "imagePath": "..\\..\\images\\a.jpg",
        "imageData": "never read",
        "imageHeight": 6,
        "imageWidth": 8,
        "shapes": [
            shape("cat", [[0, 0], [2, 2]], "rectangle", 1),
            shape("cat", [[6, 4], [8, 6]], "rectangle", 1),
            shape("cat", [[1, 1], [2, 1], [2, 2], [1, 2]]),
            shape("sofa", [[0, 0], [8, 0], [8, 6], [0, 6]], group=1),
        ],
    }
    path = tmp_path / "json" / "home" / "a.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))
    return tmp_path


def edit(root, **fields):
    path = root / "json" / "home" / "a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def open_labelme(root, label_map=None):
    return labelme.read(root / "json", root / "images", label_map)


def test_labelme_names_that_number_themselves_are_told(labelled, capsys):
    open_labelme(labelled)
    assert "as --label-map" in capsys.readouterr().err


def test_labelme_groups_join_parts_of_one_name(labelled):
    pictures = open_labelme(labelled)
    sample = first(pictures)
    assert sample.name == "home/a.jpg"
    assert segments(sample, pictures.labels) == [("cat", 8, False), ("cat", 1, False), ("sofa", 48, False)]
    assert len(sample.id_maps) == 3


def test_labelme_names_may_come_from_a_label_map(labelled):
    path = labelled / "labels.json"
    path.write_text(json.dumps([{"id": 4, "name": "sofa", "isthing": 0}, {"id": 2, "name": "cat", "isthing": 1}]))
    half = [[0, 0], [4, 6]], [[4, 0], [8, 6]]
    edit(labelled, shapes=[shape("sofa", points, "rectangle", group) for group, points in enumerate(half)])
    pictures = open_labelme(labelled, path)
    assert segments(first(pictures), pictures.labels) == [("sofa", 48, False)]  # stuff of a class is one segment
    edit(labelled, shapes=[shape("dog", SQUARE)])
    with pytest.raises(
        DataError, match=r"a\.json: shape 0 \('dog'\) has a name that is not in the label map; available: sofa, cat"
    ):
        first(open_labelme(labelled, path))


def test_labelme_never_leaves_the_folder_of_pictures(labelled):
    picture(labelled / "images" / "b.jpg")
    for stated in ("../b.jpg", "/etc/b.jpg", "..\\b.jpg"):
        edit(labelled, imagePath=stated)
        with pytest.raises(DataError, match=r"images/home/b\.jpg: does not exist \(.*a\.json\)"):
            first(open_labelme(labelled))
    for stated in ("..", "", "x/..", None, 3):
        edit(labelled, imagePath=stated)
        with pytest.raises(DataError, match="imagePath must be a file name"):
            first(open_labelme(labelled))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape("cat", [[1, 1], [2, 2]]), "is a polygon of 2 points, expected at least three"),
        (shape("cat", SQUARE, "rectangle"), "is a rectangle of 4 points, expected two"),
        (shape("cat", [[1, 1]], "point"), "is a point, expected polygon, rectangle, circle"),
        (shape("cat", SQUARE, []), r"is a \[\], expected polygon"),
        (shape("cat", [[20, 20], [21, 20], [21, 21]]), r"has the point \[20, 20\], expected x and y near"),
        (shape("cat", [[9, 1], [12, 1], [12, 4]]), "covers no pixel"),
        (shape("cat", [[1, 1], [2, float("nan")], [3, 3]]), "has the point"),
        (shape("cat", [[1, 1], [2, True], [3, 3]]), "has the point"),
        (shape("cat", [[1, 1], "ab", [3, 3]]), "has the point"),
        (shape("cat", None), "has no list of points"),
        (shape("cat", SQUARE, group="a"), "has the group_id 'a', expected a whole number or null"),
        (shape(None, SQUARE), "has a name that is not in the label map"),
    ],
)
def test_a_wrong_labelme_shape_is_one_error(labelled, wrong, message):
    edit(labelled, shapes=[shape("cat", SQUARE), wrong])
    with pytest.raises(DataError, match=rf"a\.json: shape 1 \(.*\) {message}"):
        first(open_labelme(labelled))


def test_objects_that_pile_up_are_one_error(labelled):
    edit(labelled, shapes=[shape("cat", SQUARE)] * 100)
    assert len(first(open_labelme(labelled)).id_maps) == 100
    edit(labelled, shapes=[shape("cat", SQUARE)] * 101)
    with pytest.raises(DataError, match=r"a\.json: more than 100 objects lie on one place"):
        first(open_labelme(labelled))


def test_a_wrong_labelme_file_is_one_error(labelled):
    edit(labelled, imageHeight=7)
    with pytest.raises(DataError, match=r"a\.json: says 8x7 but .*a\.jpg is 8x6"):
        first(open_labelme(labelled))
    pictures = open_labelme(labelled)
    (labelled / "json" / "home" / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"a\.json: has no list 'shapes'"):
        first(pictures)
    with pytest.raises(DataError, match="no shape has a label"):
        open_labelme(labelled)
    with pytest.raises(DataError, match="images: contains no JSON files"):
        labelme.read(labelled / "images", labelled / "images", None)
    with pytest.raises(DataError, match="nothing: does not exist"):
        labelme.read(labelled / "nothing", labelled / "images", None)


def test_shapes_between_pixels_cover_those_that_they_hold():
    expected = np.zeros((10, 12), dtype=bool)
    expected[1:4, 1:4] = True
    assert (rasterise(shape("a", SQUARE), (10, 12)) == expected).all()
    assert (rasterise({"points": SQUARE}, (10, 12)) == expected).all()  # old files name no kind
    assert (rasterise(shape("a", [[4, 4], [1, 1]], "rectangle"), (10, 12)) == expected).all()
    circle = rasterise(shape("a", [[6, 5], [6, 2]], "circle"), (10, 12))
    rows, columns = np.indices((10, 12)) + 0.5
    assert (circle == ((rows - 5) ** 2 + (columns - 6) ** 2 <= 9)).all()
    assert circle.sum() == 32
    assert rasterise(shape("a", [[0, 0], [0, 3]], "circle"), (10, 12)).sum() == 8  # the borders cut it off


def corners(seed):
    """Return three to eight points in and around an image of 9 x 7 pixels, on quarters of a pixel."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-40, 64, (rng.integers(3, 9), 2)) / 4).tolist()


def distance(x, y, start, end):
    """Return how far a point is from the line between two others."""
    (ax, ay), (bx, by) = start, end
    length = (bx - ax) ** 2 + (by - ay) ** 2
    along = max(0, min(1, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length)) if length else 0
    return np.hypot(ax + along * (bx - ax) - x, ay + along * (by - ay) - y)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_polygon_is_filled_as_rays_cross_it(seed):
    """A middle is inside if a ray from it to the left crosses an odd number of edges; near an edge it may be either."""
    points = corners(seed)
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    mask = np.zeros((7, 9), dtype=bool)
    with suppress(ValueError):  # it covers no pixel
        mask = rasterise(shape("a", points), (7, 9))
    for row, column in np.ndindex(mask.shape):
        x, y = column + 0.5, row + 0.5
        if min(distance(x, y, *edge) for edge in edges) > 1:
            crossed = [
                (ay <= y) != (by <= y) and ax + (y - ay) * (bx - ax) / (by - ay) <= x for (ax, ay), (bx, by) in edges
            ]
            assert mask[row, column] == sum(crossed) % 2


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_polygon_covers_what_it_covers_in_coco_annotations(seed):
    """Polygons are filled by pycocotools, whatever file they come from."""
    points = corners(seed)
    expected = mask_tools.merge(mask_tools.frPyObjects([[number for point in points for number in point]], 7, 9))
    if mask_tools.area(expected):
        mask = rasterise(shape("a", points), (7, 9))
        assert mask_tools.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"] == expected["counts"]


def test_a_polygon_too_long_to_fill_is_refused():
    zigzag = [[x, y] for _ in range(100_000) for x, y in ((0, 0), (200, 200))]
    with pytest.raises(ValueError, match="cannot be filled: polygons have outlines of"):
        rasterise(shape("a", zigzag), (200, 200))


@pytest.mark.parametrize("kind", ["city", "pascal", "labelled"])
def test_what_is_converted_is_read_back(kind, request):
    root = request.getfixturevalue(kind)
    pictures = {
        "city": lambda: cityscapes.read(root / "images", root / "masks"),
        "pascal": lambda: open_voc(root),
        "labelled": lambda: open_labelme(root),
    }[kind]()
    report = convert(pictures, root / "output", formats=[OutputFormat.PANOPTIC], on_problem=print)
    source = Source("dataset.val", **report.settings[OutputFormat.PANOPTIC], type="coco_panoptic")
    samples = open_source(source, pictures.labels)
    assert len(samples) == len(pictures.loads)
    for load, sample in zip(pictures.loads, samples, strict=True):
        expected = load()
        assert (sample.name, sample.size) == (expected.name, expected.size)
        if kind != "labelled":  # whose segments overlap
            assert sorted(segments(sample, pictures.labels)) == sorted(segments(expected, pictures.labels))
            assert (sample.id_maps == expected.id_maps).all()
        else:
            cats = [("cat", 1, False), ("cat", 7, False)]
            assert sorted(segments(sample, pictures.labels)) == [*cats, ("sofa", 40, False)]


@pytest.mark.parametrize(("name", "folder", "count"), [("nuclei_few", "semantic", 2), ("ade20k", "annotations", 20)])
def test_real_class_masks_keep_their_pixels(data_set, tmp_path, name, folder, count):
    root = data_set(name)
    pictures = ade20k.read(root / "images", root / folder)
    convert(pictures, tmp_path / "output", on_problem=print)
    masks = sorted((tmp_path / "output" / "semantic").glob("*.png"))
    assert len(masks) == count
    for path in masks:
        assert (np.asarray(Image.open(path)) == np.asarray(Image.open(root / folder / path.name))).all()
