"""Tar shards hold what a data set held: written, indexed, read by position, and in an order that stays near."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from oneformer_data.datasets import Concatenation
from oneformer_data.opening.loading import open_source, open_split, read_label_map
from oneformer_data.opening.sources import Source, sources
from oneformer_data.shards.index import WINDOW, parse
from oneformer_data.shards.packing import pack
from oneformer_data.shards.reader import Shards
from oneformer_data.shards.webdataset import WebDataset
from oneformer_data.shards.writing import write_shards
from oneformer_data.tools.check import check, problems, source_problems
from oneformer_data.tools.stats import stats
from oneformer_data.training.pipeline import pass_order
from oneformer_spec.errors import DataError, SpecError, UsageError
from oneformer_spec.labels import Labels
from oneformer_spec.loading.load import load_spec
from oneformer_spec.schema import DatasetSection, Split

TYPES = ("coco_panoptic", "coco_instance", "semantic_jsonl")
MB = 1_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEFORMER_CACHE", f"{tmp_path / 'cache'}")
    return tmp_path / "cache"


@pytest.fixture
def packed(formats, labels, tmp_path):
    """Return a function that writes a format as shards of one sample each, and the source that reads them."""

    def write(type: str, **options) -> Source:
        write_shards(formats[type], labels, tmp_path / "out", **{"size": MB, "samples": 1, **options})
        return Source("dataset.val", f"{tmp_path / 'out' / 'shards.json'}")

    return write


def same(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert (mine.name, mine.image_id, mine.segments) == (theirs.name, theirs.image_id, theirs.segments)
        assert np.array_equal(mine.image, theirs.image)
        assert mine.id_maps.dtype == theirs.id_maps.dtype and np.array_equal(mine.id_maps, theirs.id_maps)


def members(path):
    with tarfile.open(path) as tar:
        return {name: tar.extractfile(name).read() for name in tar.getnames()}


def tar_of(path, *rows):
    """Write a tar file as other tools do."""
    with tarfile.open(path, "w") as tar:
        for name, data in rows:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))


@pytest.mark.parametrize("type", TYPES)
class TestRoundTrip:
    def test_the_samples_are_those_of_the_direct_reader(self, packed, formats, labels, type):
        direct, shards = open_source(formats[type], labels), open_source(packed(type), labels)
        assert isinstance(shards, Shards)
        assert shards.tasks == direct.tasks
        same(shards, direct)
        same(shards[:1], direct[:1])
        same([shards[-1]], [direct[-1]])
        with pytest.raises(IndexError):
            shards[len(direct)]

    def test_files_are_copied_byte_for_byte(self, packed, formats, type):
        source = packed(type, samples=None)
        found = members(source.annotations.replace("shards.json", "shard-000000.tar"))
        assert found["000000000.png"] == Path(formats[type].images, "11.png").read_bytes()
        rest = json.loads(found["000000000.json"])
        if type == "coco_instance":
            assert rest["images"][0]["license"] == 4
            assert [row.get("note") for row in rest["annotations"]] == [None, "overlaps 1", None]
            assert b"kept" in found["000000001.jpg"]

    def test_the_same_data_gives_the_same_bytes(self, packed, formats, labels, tmp_path, type):
        packed(type)
        write_shards(formats[type], labels, tmp_path / "again", size=MB, samples=1)
        for path in sorted((tmp_path / "out").iterdir()):
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()

    def test_shards_of_shards_hold_the_same(self, packed, formats, labels, tmp_path, type):
        write_shards(packed(type), labels, tmp_path / "again", size=MB)
        again = Source("dataset.val", f"{tmp_path / 'again' / 'shards.json'}")
        same(open_source(again, labels), open_source(formats[type], labels))

    def test_another_process_reads_them(self, packed, labels, type):
        shards = open_source(packed(type), labels)
        same(pickle.loads(pickle.dumps(shards)), shards)

    def test_without_an_index_the_tar_files_tell(self, packed, formats, labels, cache, type, monkeypatch):
        source = packed(type)
        (cache.parent / "out" / "shards.json").unlink()
        for name in (f"{cache.parent / 'out'}", f"{cache.parent / 'out' / 'shard-*.tar'}"):
            same(WebDataset(replace(source, annotations=name)).open(labels), open_source(formats[type], labels))
        assert len(list(cache.glob("*.shards"))) == 1
        monkeypatch.setattr("oneformer_data.shards.locating.scan", None)
        same(WebDataset(replace(source, annotations=name)).open(labels), open_source(formats[type], labels))

    def test_the_check_finds_nothing(self, packed, labels, type):
        assert list(source_problems(packed(type), labels)) == []


class TestNuclei:
    @pytest.fixture
    def both(self, nuclei, tmp_path):
        names = ("images/val", "annotations/panoptic_val.json", "panoptic/val")
        images, annotations, panoptic = (f"{nuclei / name}" for name in names)
        source = Source("dataset.val", annotations, images, panoptic)
        labels, folder = Labels.read(nuclei / "label_map.json"), tmp_path / "out"
        write_shards(source, labels, folder, size=300_000)
        return open_source(source, labels), open_source(Source("dataset.val", f"{folder / 'shards.json'}"), labels)

    def test_the_samples_are_the_same(self, both):
        same(both[1], both[0])

    def test_no_shard_is_larger_than_asked_for(self, both):
        shards = both[1].listing.shards
        assert len(shards) > 2
        assert max(shard.size for shard in shards) <= 300_000
        # The first sample of the next shard would not have fit in.
        for one, other in pairwise(shards):
            assert one.size + int(other.offsets[1]) > 300_000


class TestWriting:
    def test_the_index_says_what_the_files_are(self, packed, tmp_path):
        document = json.loads(Path(packed("coco_panoptic").annotations).read_text())
        assert [row["name"] for row in document["shards"]] == ["shard-000000.tar", "shard-000001.tar"]
        for row in document["shards"]:
            data = (tmp_path / "out" / row["name"]).read_bytes()
            assert row["size"] == len(data) and row["sha256"] == hashlib.sha256(data).hexdigest()
        assert document["type"] == "coco_panoptic"
        assert [category["id"] for category in document["categories"]] == [3, 7]

    def test_a_seed_gives_another_order(self, packed, labels, tmp_path):
        orders, first = set(), packed("coco_panoptic")
        for seed in range(8):
            write_shards(first, labels, tmp_path / f"{seed}", size=MB, seed=seed)
            source = Source("dataset.val", f"{tmp_path / f'{seed}' / 'shards.json'}")
            orders.add(tuple(sample.name for sample in WebDataset(source).open(labels)))
        assert orders == {("11.png", "12.png"), ("12.png", "11.png")}

    def test_a_picture_whose_name_does_not_tell_is_called_by_its_content(self, folder, labels, tmp_path):
        (folder.root / "images" / "11.png").rename(folder.root / "images" / "11.image")
        folder.document["images"][0]["file_name"] = "11.image"
        folder.save()
        write_shards(folder.source, labels, tmp_path / "out", size=MB)
        assert "000000000.png" in members(tmp_path / "out" / "shard-000000.tar")

    def test_wrong_data_is_refused_as_training_refuses_it_and_leaves_nothing(self, folder, labels, tmp_path):
        folder.save()
        path = folder.root / "panoptic" / "12.png"
        path.write_bytes(path.read_bytes()[:80])
        with pytest.raises(DataError) as direct:
            open_source(folder.source, labels)[1]
        dataset = dataset_of(folder.source, tmp_path, labels)
        with pytest.raises(DataError) as written:
            pack(dataset, None, tmp_path / "out", size=MB, samples=None, seed=None)
        assert str(written.value) == str(direct.value)
        assert not [path.name for path in tmp_path.iterdir() if "out" in path.name]

    def test_a_folder_with_files_is_refused(self, folder, labels, tmp_path):
        dataset = dataset_of(folder.source, tmp_path, labels)
        with pytest.raises(UsageError, match=r"images: is not empty; name another folder$"):
            pack(dataset, "val", tmp_path / "images", size=MB, samples=None, seed=None)

    def test_the_split_must_be_told_where_there_are_several(self, folder, labels, tmp_path):
        dataset = dataset_of(folder.source, tmp_path, labels)
        both = replace(dataset, train=dataset.val)
        for split, problem in (
            (None, "--split: name one of train, val"),
            ("test", "--split test: is not set; available:"),
        ):
            with pytest.raises(UsageError, match=problem):
                pack(both, split, tmp_path / "out", size=MB, samples=None, seed=None)

    def test_several_data_sets_get_a_folder_each(self, formats, labels, tmp_path):
        every = [formats[type] for type in ("coco_instance", "semantic_jsonl")]
        dataset = dataset_of(formats["coco_instance"], tmp_path, labels)
        split = replace(dataset.val, annotations=tuple(source.annotations for source in every))
        dataset = replace(dataset, val=split)
        written = pack(dataset, None, tmp_path / "out", size=MB, samples=None, seed=None)
        assert written.images == 4
        read = replace(dataset, val=Split(annotations=tuple(map(str, written.indexes))))
        assert [source.name for source in sources(read, "val")] == ["instances", "masks"]
        same(open_split(read, "val", labels), open_split(dataset, "val", labels))
        bad = replace(dataset, val=replace(split, names=("a/b", "c")))
        with pytest.raises(UsageError, match=r"^dataset\.val\.names: 'a/b' is not a valid folder name$"):
            pack(bad, None, tmp_path / "bad", size=MB, samples=None, seed=None)


def dataset_of(source, tmp_path, labels) -> DatasetSection:
    (tmp_path / "labels.json").write_text(json.dumps(labels.rows()))
    split = Split(images=source.images, annotations=source.annotations, panoptic=source.panoptic)
    return DatasetSection(label_map=f"{tmp_path / 'labels.json'}", val=split)


class TestSpec:
    def test_the_type_is_told_by_the_name(self, packed, tmp_path):
        source = packed("coco_panoptic")
        assert source.declared.name == "webdataset"
        assert replace(source, annotations="https://host/a/shards.json").declared.name == "webdataset"
        assert replace(source, annotations=f"{tmp_path / 'out' / 'shard-000000.tar'}").declared.name == "webdataset"

    @pytest.mark.parametrize("type", [None, "webdataset"])
    @pytest.mark.parametrize(
        "name", ["absent/shards.json", "absent.tar", "absent-*.tar", "out/shard-{000000..000002}.tar"]
    )
    def test_files_must_exist(self, packed, labels, tmp_path, type, name):
        packed("coco_panoptic")  # two shards
        (tmp_path / "labels.json").write_text(json.dumps(labels.rows()))
        source = Source("dataset.train", f"{tmp_path / name}", type=type)
        settings = {"label_map": f"{tmp_path / 'labels.json'}", "train.annotations": source.annotations}
        overrides = [f"dataset.{field}={json.dumps(value)}" for field, value in settings.items()]
        if type is not None:
            overrides.append(f"dataset.train.type={type}")
        overrides.append("model.sem_seg_head.num_classes=2")
        missing = str(tmp_path / name).replace("{000000..000002}", "000002")
        with pytest.raises(SpecError, match=rf"dataset\.train\.annotations: {re.escape(missing)} does not exist$"):
            load_spec([], overrides, task="train")
        spec = load_spec([], overrides).spec
        with pytest.raises(DataError, match=f"{re.escape(missing)}:? does not exist$"):
            open_split(spec.dataset, "train", labels)
        [problem] = problems(spec)
        assert "does not exist" in problem

    def test_braces_name_the_tar_files(self, packed, formats, labels, tmp_path):
        packed("coco_panoptic")
        name = f"{tmp_path / 'out' / 'shard-{000000..000001}.tar'}"
        same(open_source(Source("dataset.val", name), labels), open_source(formats["coco_panoptic"], labels))
        [sample] = open_source(Source("dataset.val", name.replace("{000000..", "{000001..")), labels)
        assert sample.name == "12.png"

    def test_the_index_brings_the_classes(self, packed, labels):
        source = packed("coco_instance")
        assert read_label_map(DatasetSection(val=Split(annotations=source.annotations))) == labels

    def test_label_map_and_index_must_agree(self, packed, labels):
        other = Labels.parse([{"id": 3, "name": "cube"}], source="labels")
        with pytest.raises(DataError, match=r"shards\.json: category 3 is 'square' here and 'cube' in the label map$"):
            WebDataset(packed("coco_panoptic")).open(other)

    def test_folders_beside_shards_are_a_mistake(self, packed, labels):
        with pytest.raises(
            SpecError,
            match=r"^dataset\.val\.images: is set, but the shards of .* contain all files; set it to null$",
        ):
            WebDataset(replace(packed("coco_panoptic"), images="images")).open(labels)

    def test_stats_and_check_read_them(self, packed, formats, labels, tmp_path):
        direct = dataset_of(formats["coco_panoptic"], tmp_path, labels)
        shards = replace(direct, val=Split(annotations=packed("coco_panoptic").annotations))
        assert stats(shards) == stats(direct)
        findings = check(shards, lambda problem: None)
        assert (findings.problems, findings.data_sets[0].images) == ((), 2)

    @pytest.mark.parametrize("url", ["pipe:cat a.tar", "s3://bucket/shards.json", "file:///a/shards.json"])
    def test_urls_that_run_commands_or_are_unknown_are_refused(self, labels, url, monkeypatch):
        with pytest.raises(DataError, match=r"; name a path, or an index by http: or https:$"):
            WebDataset(Source("dataset.val", url, type="webdataset")).open(labels)


class TestOrder:
    @pytest.fixture
    def many(self, labels, tmp_path):
        """400 samples in 40 shards; they are never read."""
        rows = [
            {"name": f"{number}.tar", "size": 10**6, "sha256": None, "offsets": [512 * place for place in range(11)]}
            for number in range(40)
        ]
        return Shards(
            parse({"format": 1, "type": "coco_instance", "shards": rows}, "index"),
            None,
            labels,
            Source("dataset.val", "index"),
        )

    def test_every_sample_comes_once_in_an_order_of_its_own_per_pass(self, many):
        orders = [pass_order(3, number, many).tolist() for number in range(3)]
        assert all(sorted(order) == list(range(400)) for order in orders)
        assert orders[0] != orders[1] != orders[2]
        assert pass_order(3, 1, many).tolist() == orders[1]
        assert pass_order(4, 1, many).tolist() != orders[1]

    def test_few_shards_are_needed_at_a_time(self, many):
        order = pass_order(0, 0, many) // 10
        spans = [np.flatnonzero(order == shard) for shard in range(40)]
        open_at = [sum(span[0] <= position <= span[-1] for span in spans) for position in range(400)]
        assert max(open_at) <= WINDOW + 1
        assert np.mean(open_at[100:300]) > WINDOW / 2  # and not one shard after the other

    def test_ordinary_data_keeps_its_order(self, folder):
        samples = folder.open()
        expected = np.random.default_rng([5, 0, 2]).permutation(2)
        assert pass_order(5, 2, samples).tolist() == expected.tolist()
        twice = Concatenation({"a": samples, "b": samples})
        assert pass_order(5, 2, twice).tolist() == np.random.default_rng([5, 0, 2]).permutation(4).tolist()

    def test_in_joined_data_sets_the_shards_stay_near(self, many, folder):
        joined = Concatenation({"plain": [*folder.open()] * 100, "shards": many})
        order = pass_order(0, 0, joined)
        assert sorted(order.tolist()) == list(range(600))
        mixed = np.random.default_rng([0, 0, 0]).permutation(600)
        assert ((order < 200) == (mixed < 200)).all()
        assert (order[order < 200] == mixed[mixed < 200]).all()
        shards = (order[order >= 200] - 200) // 10
        spans = [np.flatnonzero(shards == shard) for shard in range(40)]
        assert max(sum(span[0] <= position <= span[-1] for span in spans) for position in range(400)) <= WINDOW + 1

    def test_cutmix_takes_its_second_picture_from_the_same_shard(self, many, folder):
        assert many.part_of(37) == range(30, 40)
        assert Concatenation({"plain": folder.open(), "shards": many}).part_of(39) == range(32, 42)


class TestTarFilesOfOthers:
    def test_masks_need_no_json(self, formats, labels, tmp_path):
        images = Path(formats["semantic_jsonl"].images)
        files = [(images / name).read_bytes() for name in ("11.png", "m.png")]
        rows = [("set/a.png", files[0]), ("set/a.SEMANTIC.png", files[1]), ("set/a.txt", b"?"), ("__meta__/b", b"")]
        tar_of(tmp_path / "a.tar", *rows)
        source = Source("dataset.val", f"{tmp_path / 'a.tar'}")
        [sample] = WebDataset(source).open(labels)
        assert sample.name == "set/a.png"
        assert np.array_equal(sample.id_maps, open_source(formats["semantic_jsonl"], labels)[0].id_maps)
        write_shards(source, labels, tmp_path / "out", size=MB)
        [again] = WebDataset(replace(source, annotations=f"{tmp_path / 'out'}", type="webdataset")).open(labels)
        assert again.name == sample.name

    def test_a_label_map_is_needed(self, packed, tmp_path):
        packed("coco_panoptic")
        with pytest.raises(SpecError, match=r"^dataset\.label_map: is not set, and .*tar has no categories"):
            read_label_map(DatasetSection(val=Split(annotations=f"{tmp_path / 'out' / 'shard-000000.tar'}")))

    def test_changed_files_are_searched_anew(self, packed, labels, tmp_path, cache):
        packed("coco_panoptic")
        name = f"{tmp_path / 'out' / '*.tar'}"
        assert len(WebDataset(Source("dataset.val", name)).open(labels)) == 2
        path = tmp_path / "out" / "shard-000001.tar"
        os.utime(path, (1000, 1000))
        WebDataset(Source("dataset.val", name)).open(labels)
        assert len(list(cache.iterdir())) == 2
        path.unlink()
        assert len(WebDataset(Source("dataset.val", name)).open(labels)) == 1
        for kept in cache.iterdir():
            kept.write_text("{}")
        assert len(WebDataset(Source("dataset.val", name)).open(labels)) == 1

    def test_nothing_there(self, labels, tmp_path):
        (tmp_path / "empty").mkdir()
        for name, problem in (("empty", "contains no .tar files"), ("b-*.tar", "does not exist")):
            with pytest.raises(DataError, match=rf"/{name.replace('*', '.')}: {problem}$"):
                WebDataset(Source("dataset.val", f"{tmp_path / name}", type="webdataset")).open(labels)
