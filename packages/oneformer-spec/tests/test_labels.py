"""A label map is read strictly: each mistake is one line with the file, the row and what was found."""

import json

import pytest

from oneformer_spec.errors import DataError
from oneformer_spec.labels import Label, Labels, color

ROWS = [
    {"id": 7, "name": "road", "isthing": 0, "color": [128, 64, 128]},
    {"id": 3, "name": "car", "isthing": 1, "color": [0, 0, 142]},
]


def message(rows):
    with pytest.raises(DataError) as caught:
        Labels.parse(rows, source="labels.json")
    return str(caught.value)


def row(**changes):
    return {name: value for name, value in (ROWS[0] | changes).items() if value != "absent"}


def test_position_is_the_class_index():
    labels = Labels.parse(ROWS, source="labels.json")
    assert len(labels) == 2
    assert labels[0] == Label(7, "road", False, (128, 64, 128))
    assert labels.indices == {7: 0, 3: 1}
    assert labels.names == ("road", "car")
    assert [label.id for label in labels] == [7, 3]


def test_rows_parse_to_the_same_labels():
    labels = Labels.parse(ROWS, source="labels.json")
    assert labels.rows() == ROWS
    assert Labels.parse(json.loads(json.dumps(labels.rows())), source="again") == labels


def test_without_a_color_the_palette_gives_one():
    assert Labels.parse([row(color="absent")], source="x")[0].color == color(7)


def test_without_isthing_a_category_is_a_thing():
    assert Labels.parse([row(isthing="absent")], source="x")[0].isthing


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "labels.json: expected a list of {id, name, isthing, color}, found an empty list"),
        ({"a": 1}, "labels.json: expected a list of {id, name, isthing, color}, found dict"),
        ("text", "labels.json: expected a list of {id, name, isthing, color}, found str"),
        (None, "labels.json: expected a list of {id, name, isthing, color}, found NoneType"),
        ([ROWS[1], 5], "labels.json: category 1: expected an object with id, name and isthing, found int"),
        ([row(id=0)], "labels.json: category 0: the id must be an integer greater than 0, found 0"),
        ([row(id=-1)], "labels.json: category 0: the id must be an integer greater than 0, found -1"),
        ([row(id="7")], "labels.json: category 0: the id must be an integer greater than 0, found '7'"),
        ([row(id=True)], "labels.json: category 0: the id must be an integer greater than 0, found True"),
        ([row(id="absent")], "labels.json: category 0: the id must be an integer greater than 0, found None"),
        (
            [row(id=2**24)],
            "labels.json: category 0: the id 16777216 does not fit into a PNG; the largest is 16777215",
        ),
        ([row(name="")], "labels.json: category 0 (id 7): the name must be a non-empty string, found ''"),
        ([row(name=5)], "labels.json: category 0 (id 7): the name must be a non-empty string, found 5"),
        ([row(isthing="1")], "labels.json: category 0 (id 7, 'road'): isthing must be 0 or 1, found '1'"),
        (
            [row(color=[0, 0, 256])],
            "labels.json: category 0 (id 7, 'road'): the color must be [red, green, blue] with values 0..255, "
            "found [0, 0, 256]",
        ),
        (
            [row(color="red")],
            "labels.json: category 0 (id 7, 'road'): the color must be [red, green, blue] with values 0..255, "
            "found 'red'",
        ),
        ([ROWS[0], row(name="other")], "labels.json: two categories have the same id: 7"),
        ([ROWS[0], row(id=8)], "labels.json: two categories have the same name: 'road'"),
    ],
)
def test_a_wrong_row_is_named(rows, expected):
    assert message(rows) == expected


@pytest.fixture
def file(tmp_path):
    return tmp_path / "labels.json"


def read_error(path):
    with pytest.raises(DataError) as caught:
        Labels.read(path)
    return str(caught.value)


def test_a_file_is_read_with_or_without_a_byte_order_mark(file):
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(json.dumps([row(name="Straße")], ensure_ascii=False), encoding=encoding)
        assert Labels.read(file)[0].name == "Straße"


def test_a_missing_file_does_not_exist(file):
    assert read_error(file) == f"{file}: the label map does not exist"


def test_a_folder_is_no_label_map(tmp_path):
    assert read_error(tmp_path) == f"{tmp_path}: cannot read the label map: Is a directory"


def test_a_broken_file_names_line_and_column(file):
    file.write_text('[\n {"id": 1,,}\n]')
    assert read_error(file).startswith(f"{file}:2:11: the label map is not valid JSON: ")


def test_bytes_that_are_no_text_are_one_line(file):
    file.write_bytes(b"\xff\xfe\x00")
    assert read_error(file).startswith(f"{file}: the label map is not UTF-8 text: ")


def test_nesting_without_end_is_one_line(file):
    file.write_text("[" * 100_000)
    assert read_error(file).startswith(f"{file}")


def test_the_file_is_named_with_a_wrong_row(file):
    file.write_text(json.dumps([row(id=0)]))
    assert read_error(file) == f"{file}: category 0: the id must be an integer greater than 0, found 0"


def test_a_number_has_one_color_for_ever():
    assert [color(number) for number in (1, 2, 3)] == [(97, 139, 242), (146, 242, 12), (204, 31, 182)]


def test_the_colors_of_a_large_label_map_differ():
    assert len({color(number) for number in range(1, 201)}) == 200


def test_neighbours_differ_clearly():
    for number in range(1, 200):
        assert max(abs(a - b) for a, b in zip(color(number), color(number + 1), strict=True)) > 60
