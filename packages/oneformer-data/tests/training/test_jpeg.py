"""JPEG files are read through simplejpeg here; what Pillow reads from them is the same."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from oneformer_spec.errors import DataError
from oneformer_spec.files import images
from oneformer_spec.files.images import ORIENTATION, read_image


def photo(height: int, width: int) -> Image.Image:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height))
    return Image.fromarray(np.clip(np.asarray(small) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2, "progressive": True}, {"quality": 20}]
)
def test_both_decoders_give_the_same_pixels(tmp_path, options):
    path = tmp_path / "a.jpg"
    photo(61, 83).save(path, **options)
    with Image.open(path) as picture:
        quick = images._usual(picture, path)
        expected = np.asarray(picture)
    assert quick is not None
    assert np.array_equal(quick, expected)
    assert np.array_equal(read_image(path), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_turned_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photo(61, 83).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == ((61, 83, 3) if orientation < 5 else (83, 61, 3))


def test_a_gray_photo_is_read_as_colours(tmp_path):
    photo(61, 83).convert("L").save(tmp_path / "a.jpg")
    pixels = read_image(tmp_path / "a.jpg")
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_cut_photo_is_damaged(tmp_path, kept):
    path = tmp_path / "a.jpg"
    photo(61, 83).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DataError, match=r"a\.jpg: damaged image: "):
        read_image(path)
