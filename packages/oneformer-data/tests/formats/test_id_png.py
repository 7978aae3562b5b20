from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from oneformer_data.formats import id_png
from oneformer_data.formats.id_png import MAX_ID, read_classes, read_ids, write_ids
from oneformer_spec.errors import DataError

IDS = np.array([[0, 1, 255], [256, 65_536, MAX_ID]], dtype=np.int32)


def test_ids_survive_a_round_trip(tmp_path):
    write_ids(tmp_path / "a.png", IDS)
    assert read_ids(tmp_path / "a.png").tolist() == IDS.tolist()
    assert read_ids(tmp_path / "a.png").dtype == np.int32


def test_an_id_is_red_plus_256_green_plus_65536_blue(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_ids(tmp_path / "a.png")[0, 0] == 1 + 2 * 256 + 3 * 65_536


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"transparency": (1, 2, 3)}])
def test_both_decoders_read_the_same_ids(tmp_path, monkeypatch, options):
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, MAX_ID + 1, (7, 9)), np.ones((5, 6), int)).astype(np.int32)
    write_ids(tmp_path / "a.png", ids)
    with Image.open(tmp_path / "a.png") as picture:
        picture.save(tmp_path / "a.png", **options)
    quick = id_png._usual(tmp_path / "a.png")
    assert quick is not None
    assert quick.shape == (35, 54, 4)
    assert np.array_equal(read_ids(tmp_path / "a.png"), ids)
    monkeypatch.setattr(id_png, "_usual", lambda path: None)
    assert np.array_equal(read_ids(tmp_path / "a.png"), ids)


def test_a_picture_above_the_limit_is_refused(tmp_path, monkeypatch):
    write_ids(tmp_path / "a.png", np.ones((40, 40), dtype=np.int32))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(DataError, match=r"a\.png: damaged PNG: Image size \(1600 pixels\) exceeds limit"):
        read_ids(tmp_path / "a.png")


def test_alpha_is_no_part_of_an_id(tmp_path):
    Image.new("RGBA", (1, 1), (1, 2, 3, 200)).save(tmp_path / "a.png")
    assert read_ids(tmp_path / "a.png")[0, 0] == 1 + 2 * 256 + 3 * 65_536


def test_a_palette_file_counts_by_its_colours(tmp_path):
    write_ids(tmp_path / "rgb.png", IDS)
    with Image.open(tmp_path / "rgb.png") as picture:
        picture.quantize(8, dither=Image.Dither.NONE).save(tmp_path / "palette.png")
    with Image.open(tmp_path / "palette.png") as picture:
        assert picture.mode == "P"
    assert read_ids(tmp_path / "palette.png").tolist() == IDS.tolist()


@pytest.mark.parametrize(("dtype", "values"), [(np.uint8, [0, 7, 255]), (np.uint16, [0, 300, 65_535])])
def test_in_gray_files_the_value_is_the_id(tmp_path, dtype, values):
    Image.fromarray(np.array([values], dtype=dtype)).save(tmp_path / "a.png")
    assert read_ids(tmp_path / "a.png").tolist() == [values]
    assert read_classes(tmp_path / "a.png").tolist() == [values]


@pytest.mark.parametrize(("bits", "packed", "values"), [(1, 0b01, [0, 1]), (2, 0b0111, [1, 3]), (4, 0x1F, [1, 15])])
def test_few_bits_of_gray_are_the_value_too(tmp_path, bits, packed, values):
    (tmp_path / "a.png").write_bytes(gray_png(bits, packed << (8 - 2 * bits)))
    assert read_ids(tmp_path / "a.png").tolist() == [values]
    assert read_classes(tmp_path / "a.png").tolist() == [values]


def gray_png(bits: int, row: int) -> bytes:
    """A gray PNG of one row of two pixels, which Pillow does not write with 2 or 4 bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes([0, row]))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_class_values_of_a_palette_file_are_its_indices(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode=None)
    picture = picture.convert("L")
    picture.putpalette([9, 9, 9, 1, 2, 3, 200, 100, 0])
    picture.save(tmp_path / "a.png")
    assert read_classes(tmp_path / "a.png").tolist() == [[0, 1, 2]]


def test_class_values_need_gray_or_palette(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: has pixels of the kind RGB; class values need a gray or palette PNG"):
        read_classes(tmp_path / "a.png")
