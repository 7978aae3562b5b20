from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from oneformer_data.formats.coco_panoptic import CocoPanoptic
from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.opening.loading import open_split, read_labels
from oneformer_data.opening.sources import Source
from oneformer_data.sample import SegmentInfo
from oneformer_spec.labels import Labels
from oneformer_spec.loading.load import load_spec


def test_a_sample_has_the_picture_its_ids_and_its_segments(folder):
    samples = folder.open()
    assert len(samples) == 2
    first = samples[0]
    assert (first.name, first.image_id, first.size) == ("11.png", 11, (24, 32))
    assert first.image[4, 4].tolist() == [200, 40, 40]
    assert first.id_maps.shape == (1, 24, 32)
    assert value_counts(first.id_maps) == {5: 80, 300: 140, 70_000: 548}
    assert first.segments[2] == SegmentInfo(300, class_index=0, isthing=True, is_crowd=False)
    assert samples[1].segments[2] == SegmentInfo(2, class_index=0, isthing=True, is_crowd=True)
    assert 0 in value_counts(samples[1].id_maps)


def test_a_slice_is_a_data_set(folder):
    samples = folder.open()
    assert [sample.image_id for sample in samples[1:]] == [12]
    assert [sample.image_id for sample in samples] == [11, 12]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "1", "I;16"])
def test_pictures_of_any_kind_become_rgb(folder, mode):
    path = folder.root / "images" / "11.png"
    with Image.open(path) as picture:
        gray = np.asarray(picture.convert("L"))
        special = {"I;16": Image.fromarray(gray.astype(np.uint16) * 257), "P": picture.quantize(4)}
        converted = special.get(mode) or picture.convert(mode)
    converted.save(path)
    image = folder.open()[0].image
    assert image.shape == (24, 32, 3)
    assert image.dtype == np.uint8
    if mode != "1":
        expected = [200, 40, 40] if mode in ("RGBA", "P") else [int(gray[4, 4])] * 3
        assert np.abs(image[4, 4].astype(int) - expected).max() <= 1


def test_a_photo_is_turned_as_its_exif_data_says(folder):
    turned = Image.open(folder.root / "images" / "11.png").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show it
    turned.save(folder.root / "images" / "11.jpg", exif=exif, quality=95)
    folder.document["images"][0]["file_name"] = "11.jpg"
    image = folder.open()[0].image
    assert image.shape == (24, 32, 3)
    assert np.abs(image[4, 4].astype(int) - [200, 40, 40]).max() < 12


def test_suffixes_in_upper_case_and_folders_below_the_root_are_read(folder):
    (folder.root / "images" / "a").mkdir()
    (folder.root / "images" / "11.png").rename(folder.root / "images" / "a" / "11.PNG")
    folder.document["images"][0]["file_name"] = "a/11.PNG"
    assert folder.open()[0].name == "a/11.PNG"


def test_images_without_annotation_are_left_out_with_a_warning(folder, caplog):
    del folder.document["annotations"][0]
    assert [sample.image_id for sample in folder.open()] == [12]
    assert caplog.messages == [f"{folder.json}: 1 of 2 images have no annotation and are left out"]


@pytest.mark.parametrize(("split", "images"), [("train", 60), ("val", 20)])
def test_the_example_is_read(nuclei, monkeypatch, split, images):
    monkeypatch.chdir(nuclei.parent.parent)
    spec = load_spec([nuclei / "demo.yaml"]).spec
    samples = open_split(spec.dataset, split, read_labels(spec))
    assert len(samples) == images
    assert samples[0].image.shape == (256, 256, 3)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("coco_open", "val"),
        ("nuclei_few", "val"),
        ("coco_pan3", "all"),
        ("coco_pan100", "val"),
        ("camvid", "val"),
        ("nuclei", "val"),
    ],
)
def test_real_data_gives_its_known_counts(data_set, name, split):
    root = data_set(name)
    stats = json.loads((root / "stats.json").read_text())["panoptic"]
    labels = Labels.read(root / "label_map.json")
    source = Source("dataset.val", f"{root}/annotations/panoptic_{split}.json", f"{root}/images", f"{root}/panoptic")
    samples = CocoPanoptic(source).open(labels)
    assert len(samples) > 1
    for sample in samples:
        expected = stats[str(sample.image_id)]
        pixels = value_counts(sample.id_maps)
        per_class: dict[str, int] = {}
        for segment in sample.segments:
            category = str(labels[segment.class_index].id)
            per_class[category] = per_class.get(category, 0) + pixels[segment.id]
        assert sample.size == (expected["height"], expected["width"])
        assert pixels.get(0, 0) == expected["void_pixels"]
        assert sum(segment.is_crowd for segment in sample.segments) == expected["crowd_segments"]
        assert per_class == expected["pixels_per_class"]
