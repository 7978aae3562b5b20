"""Broken data: each mistake is one line that names the file and the item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from oneformer_data.formats.coco_panoptic import CocoPanoptic
from oneformer_data.formats.id_png import write_ids
from oneformer_spec.errors import DataError, SpecError


def line(action) -> str:
    with pytest.raises(DataError) as raised:
        action()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def annotation(folder, **changes):
    folder.document["annotations"][0].update(changes)


def segment(folder, **changes):
    folder.document["annotations"][0]["segments_info"][1].update(changes)


def image(folder, **changes):
    folder.document["images"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "fields", "problem"),
    [
        (segment, {"id": 0}, "image 11: segment 0: an id must be an integer from 1 to 16777215"),
        (segment, {"id": -4}, "image 11: segment -4: an id must be an integer from 1 to 16777215"),
        (segment, {"id": 2**24}, "image 11: segment 16777216: an id must be an integer from 1 to 16777215"),
        (segment, {"id": "5"}, "image 11: segment '5': an id must be an integer from 1 to 16777215"),
        (segment, {"id": 300}, "image 11: segment 300: the id occurs twice"),
        (segment, {"category_id": 4}, "image 11: segment 5: category 4 is not in the label map"),
        (segment, {"category_id": True}, "image 11: segment 5: category True is not in the label map"),
        (segment, {"iscrowd": 2}, "image 11: segment 5: iscrowd must be 0 or 1, found 2"),
        (annotation, {"id": 0}, "image 11: annotation id 0: an id must be an integer greater than 0"),
        (annotation, {"image_id": 13}, "image 13: is annotated but not listed under 'images'"),
        (annotation, {"image_id": 12}, "image 12: has two annotations"),
        (annotation, {"image_id": None}, "annotations[0]: has no image_id"),
        (annotation, {"image_id": [1]}, "annotations[0]: has no image_id"),
        (annotation, {"file_name": ""}, "image 11: the annotation has no file_name of a PNG"),
        (
            annotation,
            {"segments_info": None},
            "image 11: the annotation has no list segments_info, so this is not a COCO panoptic file",
        ),
        (image, {"id": 12}, "image 12: two images have the id 12"),
        (image, {"id": None}, "images[0]: has no id"),
        (image, {"file_name": 5}, "image 11: has no file_name"),
        (image, {"file_name": "12.png"}, "image 12: two images have the file_name '12.png'"),
    ],
)
def test_mistakes_in_the_json_are_found_when_it_is_opened(folder, change, fields, problem):
    change(folder, **fields)
    assert line(folder.open) == f"{folder.json}: {problem}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"images": [\n  oops', ":2:3: not JSON: Expecting value"),
        ("[]", ": has no list 'images' at its top"),
        ('{"images": []}', ": has no list 'annotations' at its top"),
        ('{"images": [5], "annotations": []}', ": images[0]: is no object"),
        ('{"images": [], "annotations": []}', ": has no annotations"),
        ("[" * 100_000, ": not JSON that can be read: maximum recursion depth exceeded"),
    ],
)
def test_a_file_that_is_no_panoptic_json_is_refused(folder, labels, content, problem):
    folder.json.write_text(content)
    message = line(lambda: CocoPanoptic(folder.source).open(labels))
    assert message.startswith(f"{folder.json}{problem}")


def test_a_missing_annotation_file_is_named(folder, labels):
    folder.json.unlink()
    assert line(lambda: CocoPanoptic(folder.source).open(labels)) == f"{folder.json}: does not exist"


def test_a_binary_annotation_file_is_named(folder, labels):
    folder.json.write_bytes(b"\xff\xfe\x00")
    assert line(lambda: CocoPanoptic(folder.source).open(labels)).startswith(f"{folder.json}: not UTF-8 text: ")


@pytest.mark.parametrize("field", ["images", "panoptic"])
def test_an_unset_folder_is_a_mistake_of_the_spec(folder, labels, field):
    with pytest.raises(SpecError, match=rf"^dataset\.val\.{field}: is not set; .*panoptic\.json needs it$"):
        CocoPanoptic(replace(folder.source, **{field: None})).open(labels)


@pytest.mark.parametrize("kind", ["images", "panoptic"])
def test_a_missing_file_is_found_when_the_data_is_opened(folder, kind):
    path = folder.root / kind / "12.png"
    path.unlink()
    assert line(folder.open) == f"{path}: does not exist (image 12 of {folder.json})"


def test_a_file_that_vanishes_later_is_named_too(folder):
    samples = folder.open()
    path = folder.root / "panoptic" / "11.png"
    path.unlink()
    assert line(lambda: samples[0]) == f"{path}: does not exist (image 11 of {folder.json})"


@pytest.mark.parametrize("kind", ["images", "panoptic"])
def test_a_truncated_file_is_named(folder, kind):
    path = folder.root / kind / "11.png"
    path.write_bytes(path.read_bytes()[:-30])
    samples = folder.open()
    message = line(lambda: samples[0])
    assert message.startswith(f"{path}: damaged {'image' if kind == 'images' else 'PNG'}: ")
    assert message.endswith(f"(image 11 of {folder.json})")


def test_a_panoptic_file_that_is_no_png_is_named(folder):
    path = folder.root / "panoptic" / "11.png"
    path.write_bytes(b"GIF89a")
    samples = folder.open()
    assert line(lambda: samples[0]) == f"{path}: not a PNG file (image 11 of {folder.json})"


def test_a_png_of_another_size_is_named(folder):
    path = folder.root / "panoptic" / "11.png"
    write_ids(path, np.full((24, 30), 5))
    samples = folder.open()
    expected = f"{path}: is 30x24 but the image is 32x24 (image 11 of {folder.json})"
    assert line(lambda: samples[0]) == expected


def test_a_png_that_was_not_turned_like_its_photo_is_explained(folder):
    path = folder.root / "panoptic" / "11.png"
    write_ids(path, np.full((32, 24), 5))
    samples = folder.open()
    assert "in the orientation that its EXIF data asks for (image 11" in line(lambda: samples[0])


def test_a_colour_without_entry_is_named(folder):
    del folder.document["annotations"][0]["segments_info"][1]
    samples = folder.open()
    expected = (
        f"{folder.root}/panoptic/11.png: id 5 (80 pixels) has no entry in segments_info (image 11 of {folder.json})"
    )
    assert line(lambda: samples[0]) == expected


def test_an_entry_without_pixels_is_named(folder):
    folder.document["annotations"][0]["segments_info"].append({"id": 6, "category_id": 3})
    samples = folder.open()
    expected = f"{folder.root}/panoptic/11.png: segment 6 of segments_info has no pixels (image 11 of {folder.json})"
    assert line(lambda: samples[0]) == expected


@pytest.mark.parametrize("name", ["../outside.png", "a/../../outside.png", "/etc/hostname"])
def test_a_name_that_leaves_its_folder_is_refused(folder, name):
    Image.new("RGB", (32, 24)).save(folder.root / "outside.png")
    image(folder, file_name=name)
    root = folder.root / "images"
    expected = (
        f"{name}: leaves its folder {root}; dataset.allow_outside_root=true permits that (image 11 of {folder.json})"
    )
    assert line(folder.open) == expected


def test_a_link_that_leaves_its_folder_is_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    path = folder.root / "images" / "11.png"
    path.rename(outside / "11.png")
    path.symlink_to(outside / "11.png")
    assert line(folder.open).startswith(f"{path}: links out of {folder.root / 'images'}; ")


def test_a_linked_folder_that_leaves_the_root_is_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (folder.root / "images" / "11.png").rename(outside / "11.png")
    (folder.root / "images" / "more").symlink_to(outside)
    image(folder, file_name="more/11.png")
    assert line(folder.open).startswith(f"{folder.root}/images/more: links out of {folder.root / 'images'}; ")


def test_links_inside_the_folder_and_a_linked_root_are_fine(folder, labels):
    images = folder.root / "images"
    images.rename(folder.root / "elsewhere")
    images.symlink_to(folder.root / "elsewhere")
    (images / "11.png").rename(images / "real.png")
    (images / "11.png").symlink_to("real.png")
    assert folder.open()[0].image_id == 11


def test_leaving_the_folder_can_be_allowed(folder, labels):
    (folder.root / "images" / "11.png").rename(folder.root / "outside.png")
    image(folder, file_name="../outside.png")
    folder.save()
    samples = CocoPanoptic(replace(folder.source, allow_outside_root=True)).open(labels)
    assert samples[0].image_id == 11
