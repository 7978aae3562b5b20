"""Image files of every kind become RGB pixels, upright, or one line that names the file; folders are searched."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oneformer_spec.errors import DataError
from oneformer_spec.files import images
from oneformer_spec.files.images import ORIENTATION, find_images, read_image


@pytest.fixture
def gradient() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def photo(height: int, width: int) -> Image.Image:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height))
    return Image.fromarray(np.clip(np.asarray(small) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8))


def problem(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_reads_rgb_as_it_is(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels, gradient)
    assert pixels.flags.c_contiguous
    assert pixels.dtype == np.uint8


def test_alpha_is_dropped(tmp_path, gradient):
    alpha = np.full((20, 30, 1), 7, dtype=np.uint8)
    Image.fromarray(np.concatenate([gradient, alpha], axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient)


def test_gray_becomes_three_equal_channels(tmp_path, gradient):
    Image.fromarray(gradient[:, :, 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient[:, :, :1].repeat(3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_upper_half_of_16_bits_stays(tmp_path, gradient, suffix):
    wide = gradient[:, :, 0].astype(np.uint16) * 256 + 200
    Image.fromarray(wide).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), gradient[:, :, :1].repeat(3, axis=2))


def test_a_palette_with_transparency_gives_its_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_print_colours_are_converted(tmp_path, mode):
    Image.new("RGB", (8, 8), (250, 10, 10)).convert(mode).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - [250, 10, 10]).max() < 12


def test_float_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    assert "float pixels have no fixed range" in problem(tmp_path / "a.tif")


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image as a camera stores it: EXIF 2.3, section 4.6.4, where its row 0 and column 0 are seen."""
    row_0, column_0 = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    turned = upright if row_0 in ("top", "bottom") else upright.transpose(1, 0, 2)
    return turned[:: -1 if row_0 in ("bottom", "right") else 1, :: -1 if column_0 in ("bottom", "right") else 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, gradient, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored(gradient, orientation))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_turned_upright(tmp_path, orientation):
    upright = np.asarray(photo(61, 83))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored(upright, orientation))).save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = read_image(tmp_path / "a.jpg")
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 12  # levels; turned the wrong way it is above 50


def test_damaged_exif_beside_good_pixels_turns_nothing(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x00\x01")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".gif", ".webp"])
def test_a_truncated_file_is_one_line(tmp_path, gradient, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(gradient).save(path)
    whole = path.read_bytes()
    for end in (1, 10, len(whole) // 2):
        path.write_bytes(whole[:end])
        problem(path)


@pytest.mark.parametrize(
    "options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2, "progressive": True}, {"quality": 20}]
)
def test_both_jpeg_decoders_give_the_same_pixels(tmp_path, options):
    path = tmp_path / "a.jpg"
    photo(61, 83).save(path, **options)
    with Image.open(path) as image:
        quick = images._decode_plain_jpeg(image, path)
        expected = np.asarray(image)
    assert quick is not None
    assert np.array_equal(quick, expected)
    assert np.array_equal(read_image(path), expected)


@given(st.data())
def test_a_file_with_changed_bytes_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / f"a.{data.draw(st.sampled_from(['png', 'jpg', 'tif', 'gif']))}"
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(path)
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        readable = read_image(path).shape[2] == 3
    except DataError:
        readable = False
    if not readable:
        problem(path)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    assert "refused" in problem(tmp_path / "a.png")


def test_files_that_are_not_images_are_reported(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    (tmp_path / "folder.png").mkdir()
    assert problem(tmp_path / "missing.png").endswith("does not exist")
    assert problem(tmp_path / "empty.png").endswith("the file is empty")
    assert "not an image" in problem(tmp_path / "text.png")
    assert "not an image" in problem(tmp_path / "program.png")
    assert problem(tmp_path / "folder.png").endswith("is not a regular file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_block_the_reader(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert problem(tmp_path / "a.png").endswith("is not a regular file")
    assert find_images(tmp_path) == []


def test_finds_images_below_a_folder_in_a_stable_order(tmp_path):
    for name in ("b.JPG", "a.png", "below/deep/c.Tiff", "below/d.jpeg", "notes.txt", ".hidden.png", ".cache/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.png", "b.JPG", "below/d.jpeg", "below/deep/c.Tiff"]


def test_follows_linked_folders_once(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "images")
    assert find_images(tmp_path / "images") == [tmp_path / "images" / "link" / "a.png"]


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(DataError, match="none: does not exist"):
        find_images(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: is not a folder"):
        find_images(tmp_path / "file")
