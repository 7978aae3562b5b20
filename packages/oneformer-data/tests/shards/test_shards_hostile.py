"""Shards that lie or are damaged: one clear error, little memory, nothing written, nothing run."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneformer_data.opening.sources import Source
from oneformer_data.shards.webdataset import WebDataset
from oneformer_data.shards.writing import write_shards
from oneformer_data.tools.check import source_problems
from oneformer_spec.errors import DataError

END = bytes(1024)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEFORMER_CACHE", f"{tmp_path / 'cache'}")


@pytest.fixture
def out(folder, labels, tmp_path) -> Path:
    """Two panoptic samples in one shard, with an index."""
    folder.save()
    write_shards(folder.source, labels, tmp_path / "out", size=10**6)
    return tmp_path / "out"


@pytest.fixture
def indexed(out) -> Source:
    return Source("dataset.val", f"{out / 'shards.json'}")


@pytest.fixture
def tar(out) -> Path:
    return out / "shard-000000.tar"


def alone(tar: Path) -> Source:
    """The shard without its index."""
    return Source("dataset.val", f"{tar}")


def read(source, labels):
    return list(WebDataset(source).open(labels))


def refused(source, labels) -> str:
    """The error of reading, which the check must find, too."""
    with pytest.raises(DataError) as raised:
        read(source, labels)
    assert "\n" not in str(raised.value)
    assert list(source_problems(source, labels))
    return str(raised.value)


def header(name: str, size: int = 0, **fields: object) -> bytes:
    made = tarfile.TarInfo(name)
    made.size = size
    for field, value in fields.items():
        setattr(made, field, value)
    return made.tobuf(tarfile.USTAR_FORMAT)


def edited(indexed: Source, **fields: object) -> None:
    """Change the one shard of an index."""
    path = Path(indexed.annotations)
    document = json.loads(path.read_text())
    document["shards"][0].update(fields)
    path.write_text(json.dumps(document))


def second_sample(tar: Path) -> int:
    with tarfile.open(tar) as archive:
        return archive.getmembers()[3].offset


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (header("../../b.json"), "../../b.json: the name points outside its folder"),
        (header("/etc/b.json"), "/etc/b.json: the name points outside its folder"),
        (
            header("b.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            "b.json: is a link, a device or something else",
        ),
        (header("b.json", type=tarfile.LNKTYPE, linkname="a.png"), "b.json: is a link, a device or something else"),
        (header("b.png", type=tarfile.CHRTYPE), "b.png: is a link, a device or something else"),
        (header("b.png", type=tarfile.FIFOTYPE), "b.png: is a link, a device or something else"),
        (header("b.png", type=tarfile.GNUTYPE_SPARSE), "b.png: is a link, a device or something else"),
        (header("b.json", 5000), "b.json: claims 5000 bytes, but the file ends earlier"),
        (header("b", 2**33 - 1, type=tarfile.GNUTYPE_LONGNAME), "a header claims 8589934592 bytes"),
        (header("b", 2**33 - 1, type=tarfile.XHDTYPE), "a header claims 8589934592 bytes"),
        (header("b.png")[:100] + b"no checksum".ljust(412, b"\0"), "is damaged or cut off at byte"),
        (
            header("b.png"),
            ": b: has nothing besides its image, expected panoptic.png and json for coco_panoptic, or json for "
            "coco_instance, or semantic.png for semantic_jsonl",
        ),
        (header("b.json"), ": b: has no image, expected one image"),
        (header("b.png") + header("b.jpg") + header("b.json"), ": b: has jpg and png, expected one image"),
        (header("b.png") + header("b.PNG"), ": b: has two files of the same kind among png, png"),
        (header("b.png") + header("b.json"), "contains samples of several formats: coco_instance, coco_panoptic"),
        (header("000000000.json"), ": 000000000: the files of the sample are not next to each other"),
    ],
)
def test_a_member_that_lies_is_refused(tar, labels, member, problem):
    tar.write_bytes(tar.read_bytes()[: -len(END)] + member + END)
    assert problem in refused(alone(tar), labels)


def test_a_negative_size_does_not_turn_the_search_back(tar, labels):
    lie = bytearray(header("b.json"))
    lie[124:136] = (256**12 - 512).to_bytes(12, "big")  # -512 as GNU tar writes it
    lie[148:156] = b" " * 8
    lie[148:156] = f"{sum(lie):06o}\0 ".encode()
    for place in (header("a", type=tarfile.DIRTYPE), b""):
        tar.write_bytes(place + bytes(lie) + END)
        assert str(tar) in refused(alone(tar), labels)


@pytest.mark.parametrize("data", [b"", b"no tar file", END, b"\x1f\x8b" + bytes(2000), os.urandom(4096)])
def test_what_is_no_tar_file_is_said_to_be_none(tar, labels, data):
    tar.write_bytes(data)
    assert str(tar) in refused(alone(tar), labels)


@pytest.mark.parametrize("length", [-600, -1024, -1025, -3000])
def test_a_file_that_is_cut_off_is_found(tar, indexed, labels, length):
    data = tar.read_bytes()
    tar.write_bytes(data[:length])
    assert refused(indexed, labels) == f"{tar}: has {len(data) + length} bytes, its index says {len(data)}"
    assert str(tar) in refused(alone(tar), labels)


@pytest.mark.parametrize("flipped", range(0, 4096, 97))
def test_no_damaged_byte_is_passed_on_silently(tar, indexed, labels, flipped):
    data = bytearray(tar.read_bytes())
    data[flipped] ^= 0x55
    tar.write_bytes(data)
    problems = list(source_problems(indexed, labels))
    assert len(problems) == 1 and "has the SHA-256 digest" in problems[0]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"name": "../shard-000000.tar"},
            "name: '../shard-000000.tar' is not the name of a .tar file beside the index",
        ),
        ({"name": 5}, "name: 5 is not the name of a .tar file beside the index"),
        ({"size": -1}, "size: -1 is not a number of bytes"),
        ({"size": 2**200}, f"size: {2**200} is not a number of bytes"),
        ({"sha256": "abc"}, "sha256: 'abc' is not a hexadecimal SHA-256 digest"),
        ({"offsets": [0]}, "offsets: expected whole numbers, one per sample and one more"),
        ({"offsets": [0, 512.0]}, "offsets: expected whole numbers, one per sample and one more"),
        ({"offsets": [0, 2**200]}, "offsets: point past the end of a file of"),
        ({"offsets": [-512, 512]}, "offsets: point past the end of a file of"),
        ({"offsets": [0, 513]}, "offsets: are not increasing multiples of 512"),
        ({"offsets": [512, 0]}, "offsets: are not increasing multiples of 512"),
        (
            {"offsets": [0, 1 << 31], "size": 1 << 32},
            "offsets: a sample has 2147483648 bytes, at most 1073741824 are read",
        ),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(indexed, labels, fields, problem):
    edited(indexed, **fields)
    assert refused(indexed, labels).startswith(f"{indexed.annotations}: shards[0]: {problem}")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "has no list 'shards' at its top"),
        ({"shards": []}, "is an index of format None; this version reads format 1"),
        ({"format": 2, "shards": []}, "is an index of format 2; this version reads format 1"),
        (
            {"format": 1, "type": "magic", "shards": []},
            "type: 'magic' is not an installed format that consists of files",
        ),
        ({"format": 1, "type": "coco_panoptic", "shards": []}, "has no shards"),
        (
            {"format": 1, "type": "coco_panoptic", "shards": [], "categories": 3},
            "categories: expected a list, found int",
        ),
    ],
)
def test_what_is_no_index_is_refused(indexed, labels, document, problem):
    Path(indexed.annotations).write_text(json.dumps(document))
    assert refused(indexed, labels).startswith(f"{indexed.annotations}: {problem}")


def test_two_shards_of_one_name_are_refused(indexed, labels):
    path = Path(indexed.annotations)
    document = json.loads(path.read_text())
    document["shards"] *= 2
    path.write_text(json.dumps(document))
    assert refused(indexed, labels) == f"{path}: two shards have the same name"


class TestDisagreement:
    def test_offsets_that_hit_no_header(self, indexed, tar, labels):
        edited(indexed, offsets=[512, second_sample(tar)])
        assert f"{tar}: is not a tar file, is damaged, or disagrees with its index" in refused(indexed, labels)

    def test_one_sample_where_the_file_has_two(self, indexed, tar, labels):
        edited(indexed, offsets=[0, tar.stat().st_size - len(END)])
        expected = f"{tar}: disagrees with its index, which has one sample where the file has 2"
        assert refused(indexed, labels) == expected

    def test_a_sample_that_ends_in_another(self, indexed, tar, labels):
        edited(indexed, offsets=[0, second_sample(tar) + 512])
        assert str(tar) in refused(indexed, labels)

    def test_another_format_than_that_of_the_samples(self, indexed, labels):
        path = Path(indexed.annotations)
        path.write_text(path.read_text().replace('"coco_panoptic"', '"coco_instance"'))
        assert refused(indexed, labels).endswith("the sample is coco_panoptic, its index says coco_instance")

    def test_a_shard_that_is_missing(self, indexed, tar, labels):
        tar.unlink()
        assert refused(indexed, labels) == f"{tar}: does not exist"

    def test_a_shard_that_links_out_of_its_folder(self, indexed, tar, labels, tmp_path):
        tar.rename(tmp_path / "elsewhere.tar")
        tar.symlink_to(tmp_path / "elsewhere.tar")
        assert "dataset.allow_outside_root=true permits that" in refused(indexed, labels)
        assert len(read(replace(indexed, allow_outside_root=True), labels)) == 2


def sample(annotation: bytes, picture: bytes, mask: bytes) -> bytes:
    parts = []
    for kind, data in (("json", annotation), ("panoptic.png", mask), ("png", picture)):
        parts += [header(f"a.{kind}", len(data)), data, bytes(-len(data) % 512)]
    return b"".join(parts) + END


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (b"", "a.json:1:1: not JSON: Expecting value"),
        (b"\xff\xfe", "a.json: not UTF-8 text"),
        (b"[" * 100_000, "a.json: not JSON that can be read"),
        (b'{"images": ' + b"9" * 5000 + b"}", "a.json: not JSON that can be read"),
        (b"[]", "a.json: has no list 'images' at its top"),
        (b'{"images": [], "annotations": []}', "a.json: has no annotations"),
        (b'{"images": [{"id": 1}], "annotations": []}', "a.json: image 1: has no file_name"),
    ],
)
def test_json_that_is_wrong_is_named(tar, labels, folder, annotation, problem):
    files = [(folder.root / name / "11.png").read_bytes() for name in ("images", "panoptic")]
    tar.write_bytes(sample(annotation, *files))
    assert refused(alone(tar), labels).startswith(f"{tar}: {problem}")


def test_a_sample_is_about_one_image(tar, labels, folder):
    files = [(folder.root / name / "11.png").read_bytes() for name in ("images", "panoptic")]
    tar.write_bytes(sample(json.dumps(folder.document).encode(), *files))
    assert refused(alone(tar), labels) == f"{tar}: a.json: is about 2 images, expected one"


def test_names_and_ids_that_occur_twice_are_found(tar, out, labels):
    (out / "shards.json").unlink()
    (out / "b.tar").write_bytes(tar.read_bytes())
    found = list(source_problems(Source("dataset.val", f"{out}", type="webdataset"), labels))
    assert len(found) == 4
    assert found[0].endswith(f"000000000.png: has the same file_name '11.png' as {out / 'b.tar'}: 000000000.png")


def test_what_is_claimed_takes_no_memory(tar, labels):
    """A file of 200 MB, mostly a hole, whose headers claim all of it."""
    with open(tar, "r+b") as file:
        file.seek(0)
        file.write(header("b", 190_000_000, type=tarfile.XHDTYPE))
        file.truncate(200_000_000)
    tracemalloc.start()
    try:
        assert "a header claims 190000128 bytes" in refused(alone(tar), labels)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_errors_of_a_sample_name_tar_file_and_member(tar, labels, folder):
    annotation = {"images": folder.document["images"][:1], "annotations": folder.document["annotations"][:1]}
    picture, mask = ((folder.root / name / "11.png").read_bytes() for name in ("images", "panoptic"))
    tar.write_bytes(sample(json.dumps(annotation).encode(), picture[:60], mask))
    assert refused(alone(tar), labels).startswith(f"{tar}: a.png: damaged image: ")
    assert refused(alone(tar), labels).endswith(f"(image 11 of {tar}: a.json)")
    wrong = io.BytesIO()
    from PIL import Image

    Image.fromarray(np.zeros((24, 32), dtype=np.uint8)).save(wrong, format="PNG")
    tar.write_bytes(sample(json.dumps(annotation).encode(), picture, wrong.getvalue()))
    assert refused(alone(tar), labels).startswith(f"{tar}: a.panoptic.png: segment 5 of segments_info has no pixels")
