"""Tar shards through the command line and the loaders of training, and exchanged with the webdataset library."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oneformer_cli.main import main
from oneformer_data.opening.loading import open_split, read_label_map
from oneformer_data.shards.reader import Shards
from oneformer_data.training.pipeline import from_spec
from oneformer_spec.loading.load import load_spec
from oneformer_train.batches.loaders import course_of, training_loader

SMALL = (
    "dataset.augmentation.train_crop_size=[64,64]",
    "dataset.augmentation.test_min_size=64",
    "dataset.augmentation.test_max_size=64",
    "dataset.train.batch_size=2",
    "dataset.cutmix_prob=0.5",
    "model.backbone.swin.embed_dim=8",
    "model.backbone.swin.depths=[1,1,1,1]",
    "model.backbone.swin.num_heads=[1,1,2,2]",
    "model.sem_seg_head.convs_dim=32",
    "model.sem_seg_head.mask_dim=32",
    "model.sem_seg_head.transformer_enc_layers=1",
    "model.one_former.hidden_dim=32",
    "model.one_former.dec_layers=3",
    "model.one_former.num_object_queries=20",
    "model.one_former.train_num_points=64",
    "model.text_encoder.width=16",
    "train.num_epochs=1",
    "train.iters_per_epoch=2",
)


@dataclass(frozen=True)
class Server:
    """The URL of an index on a web server, and the file that lists what it was asked for."""

    index: str
    log: Path


def oneformer(*words: str) -> int:
    """Run a command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def demo(repository: Path) -> str:
    return str(repository / "examples" / "nuclei" / "demo.yaml")


@pytest.fixture(scope="module", autouse=True)
def at_the_root(repository: Path) -> Any:
    """The paths of the example start from the repository's root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        yield


@pytest.fixture(scope="module")
def packed(demo: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Both splits of the example as shards: the settings that read them."""
    folder = tmp_path_factory.mktemp("shards")
    for split, samples in (("train", 5), ("val", 8)):
        words = ("--split", split, "--output", f"{folder / split}", "--samples", f"{samples}")
        assert oneformer("dataset", "shard", "-e", demo, *words) == 0
    fields = ((split, name) for split in ("train", "val") for name in ("images", "panoptic"))
    nothing = (f"dataset.{split}.{name}=null" for split, name in fields)
    return *nothing, *(f"dataset.{split}.annotations={folder / split / 'shards.json'}" for split in ("train", "val"))


@pytest.fixture
def server(packed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve the training shards, with an empty cache."""
    monkeypatch.setenv("ONEFORMER_CACHE", f"{tmp_path / 'cache'}")
    index, log = Path(packed[-2].partition("=")[2]), tmp_path / "log"
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(index.parent)]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file)
    assert process.stdout is not None
    try:
        port = re.search(rb"port (\d+)", process.stdout.readline())
        assert port is not None
        yield Server(f"http://127.0.0.1:{port[1].decode()}/shards.json", log)
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()


def batches(demo: str, packed: tuple[str, ...], workers: int, *, done: int = 0, count: int) -> list[Any]:
    """Return training batches from the one on that comes when some are done."""
    spec = load_spec([demo], (*SMALL, *packed, f"dataset.train.num_workers={workers}", "train.iters_per_epoch=9")).spec
    pipeline = from_spec(spec)
    course = course_of(spec, len(pipeline))
    course.batches_done, course.samples_done = done, done * course.samples_per_batch
    return list(islice(training_loader(pipeline, spec, course), count))


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def test_batches_depend_on_the_position_alone(demo: str, packed: tuple[str, ...]) -> None:
    whole = batches(demo, packed, 0, count=9)
    assert not equal(whole[0], whole[1])
    for workers in (1, 2):
        assert equal(batches(demo, packed, workers, count=9), whole)
    assert equal(batches(demo, packed, 2, done=4, count=5), whole[4:])


def test_batches_of_a_server_are_the_same_and_processes_fetch_a_shard_once(
    demo: str, packed: tuple[str, ...], server: Server
) -> None:
    url = f"dataset.train.annotations={server.index}"
    assert equal(batches(demo, (*packed, url), 2, count=9), batches(demo, packed, 0, count=9))
    asked = re.findall(r"GET /(\S+\.tar)", server.log.read_text())
    assert len(asked) == len(set(asked)) > 4


def test_training_takes_a_url_and_a_pattern(
    demo: str, packed: tuple[str, ...], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(packed[-2].partition("=")[2]).parent
    annotations = json.dumps([server.index, f"{folder}/shard-{{000000..000011}}.tar"])
    words = ("-e", demo, *SMALL, "dataset.workers=0", "dataset.train.num_workers=0", *packed)
    named = f"dataset.train.annotations={annotations}"
    assert load_spec([demo], (*packed, named), task="train").spec.dataset.train.type is None
    assert oneformer("validate", *words, named, "--task", "train") == 0
    assert oneformer("train", *words, "dataset.val.annotations=", named, f"results_dir={tmp_path}") == 0
    capsys.readouterr()
    missing = f"dataset.train.annotations={folder}/shard-{{000000..000012}}.tar"
    assert oneformer("train", *words, missing, f"results_dir={tmp_path / 'more'}") == 2
    assert f"dataset.train.annotations: {folder}/shard-000012.tar does not exist" in capsys.readouterr().err


def test_a_model_trains_on_shards_and_scores_the_same_on_them(
    demo: str, packed: tuple[str, ...], tmp_path: Path
) -> None:
    words = ("-e", demo, *SMALL, "dataset.workers=0", "dataset.train.num_workers=0", "dataset.val.num_workers=0")
    assert oneformer("train", *words, *packed, f"results_dir={tmp_path / 'shards'}") == 0
    model = f"evaluate.checkpoint={tmp_path / 'shards' / 'train' / 'oneformer_model_latest.pth'}"
    scores = []
    for name, fields in (("direct", ()), ("shards", packed)):
        assert oneformer("evaluate", *words, *fields, model, f"results_dir={tmp_path / name}") == 0
        scores.append(json.loads((tmp_path / name / "evaluate" / "metrics.json").read_text()))
    assert scores[0] == scores[1]


def test_the_tools_read_shards(
    demo: str, packed: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert oneformer("validate", "-e", demo, "--data", *packed) == 0
    assert oneformer("dataset", "check", "-e", demo, *packed) == 0
    assert (
        "images that are not files, such as those in shards, are not compared with those of other splits"
        in capfd.readouterr().err
    )
    assert oneformer("dataset", "show", "-e", demo, *packed, "--output", f"{tmp_path}", "--count", "2") == 0
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
class TestLibrary:
    """The convention is that of the webdataset library: each reads what the other wrote."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def library(cls) -> Any:
        pytest.importorskip("webdataset", reason="the integration session installs it")
        yield
        gc.collect()  # the library leaves files open

    def test_the_library_reads_our_shards(self, demo: str, packed: tuple[str, ...]) -> None:
        import webdataset

        dataset = load_spec([demo], packed).spec.dataset
        samples = open_split(dataset, "val", read_label_map(dataset))
        assert isinstance(samples, Shards)
        folder = Path(str(dataset.val.annotations)).parent
        urls = [str(folder / shard.name) for shard in samples.listing.shards]
        theirs = list(webdataset.WebDataset(urls, shardshuffle=False))
        assert len(theirs) == len(samples) == 20
        for index, found in enumerate(theirs):
            mine = samples.stored(index)
            assert found["png"] == mine.picture.data
            assert found["json"] == mine.annotation.data
            assert found["panoptic.png"] == mine.files["panoptic"].data

    def test_we_read_shards_of_the_library(self, demo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import webdataset

        monkeypatch.setenv("ONEFORMER_CACHE", f"{tmp_path / 'cache'}")
        dataset = load_spec([demo], ()).spec.dataset
        labels = read_label_map(dataset)
        root = Path(str(dataset.val.images)).parents[1]
        document = json.loads(Path(str(dataset.val.annotations)).read_text())
        with webdataset.ShardWriter(f"{tmp_path}/theirs-%03d.tar", maxcount=7, verbose=0) as writer:
            for picture, row in zip(document["images"], document["annotations"], strict=True):
                files = {
                    "png": (root / "images" / "val" / picture["file_name"]).read_bytes(),
                    "panoptic.png": (root / "panoptic" / "val" / row["file_name"]).read_bytes(),
                    "json": {"images": [picture], "annotations": [row]},
                }
                writer.write({"__key__": Path(picture["file_name"]).stem, **files})
        direct = open_split(dataset, "val", labels)
        fields = ("dataset.val.images=null", "dataset.val.panoptic=null")
        words = (*fields, f"dataset.val.annotations={tmp_path}/theirs-*.tar")
        theirs = open_split(load_spec([demo], words).spec.dataset, "val", labels)
        assert isinstance(theirs, Shards) and len(theirs) == len(direct) == 20
        for one, other in zip(theirs, direct, strict=True):
            assert (one.name, one.segments) == (other.name, other.segments)
            assert np.array_equal(one.id_maps, other.id_maps) and np.array_equal(one.image, other.image)
