"""Shards on a web server are fetched once, proven, and kept within a limit."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from oneformer_data.opening.loading import open_source, read_label_map
from oneformer_data.opening.sources import Source
from oneformer_data.shards import remote
from oneformer_data.shards.webdataset import WebDataset
from oneformer_data.shards.writing import write_shards
from oneformer_data.tools.check import source_problems
from oneformer_spec.errors import DataError, UsageError
from oneformer_spec.schema import DatasetSection, Split


class Server(ThreadingHTTPServer):
    """Serves a folder, remembers what it was asked for, and fails the next `failures` times."""

    asked: list[str]
    failures = 0
    cut = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def tars(self) -> list[str]:
        return sorted(path for path in self.asked if path.endswith(".tar"))


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/away/shards.json":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.server.failures:
            self.server.failures -= 1
            if not self.server.cut:
                return self.send_error(503)
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"a part")
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEFORMER_CACHE", f"{tmp_path / 'cache'}")
    monkeypatch.setattr(remote, "_WAITS", (0, 0))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def out(formats, labels, tmp_path) -> Path:
    """Two shards of one sample."""
    write_shards(formats["coco_panoptic"], labels, tmp_path / "out", size=10**6, samples=1)
    return tmp_path / "out"


@pytest.fixture
def server(out):
    with Server(("127.0.0.1", 0), partial(Handler, directory=f"{out}")) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def source(server):
    return Source("dataset.val", f"{server.url}/shards.json")


def kept(cache):
    return sorted(path.name for path in cache.glob("*.tar"))


def names(source, labels):
    return [sample.name for sample in WebDataset(source).open(labels)]


def test_the_samples_are_those_of_the_folder(source, out, labels):
    mine, theirs = open_source(source, labels), open_source(Source("dataset.val", f"{out / 'shards.json'}"), labels)
    for one, other in zip(mine, theirs, strict=True):
        assert (one.name, one.segments) == (other.name, other.segments)
        assert (one.image == other.image).all() and (one.id_maps == other.id_maps).all()
    assert read_label_map(DatasetSection(val=Split(annotations=source.annotations))) == labels
    assert list(source_problems(source, labels)) == []


def test_a_shard_is_fetched_when_it_is_needed_and_once(source, server, labels, cache):
    samples = WebDataset(source).open(labels)
    assert server.tars() == []
    for _ in range(2):
        assert samples[1].name == "12.png"
        assert server.tars() == ["/shard-000001.tar"]
    assert names(source, labels) == ["11.png", "12.png"]
    assert server.tars() == ["/shard-000000.tar", "/shard-000001.tar"]
    assert len(kept(cache)) == 2


def test_threads_that_want_one_shard_fetch_it_once(source, server, labels):
    samples = WebDataset(source).open(labels)
    with ThreadPoolExecutor(8) as readers:
        found = list(readers.map(lambda number: samples[number % 2].name, range(32)))
    assert found == ["11.png", "12.png"] * 16
    assert server.tars() == ["/shard-000000.tar", "/shard-000001.tar"]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_connection_that_fails_is_tried_three_times(source, server, labels, cache, cut, failures):
    samples = WebDataset(source).open(labels)
    server.failures, server.cut = failures, cut
    if failures < 3:
        assert samples[0].name == "11.png"
        return
    with pytest.raises(DataError, match=rf"^{server.url}/shard-000000\.tar: cannot be downloaded: "):
        samples[0]
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []
    assert samples[0].name == "11.png"


def test_what_is_not_there_is_not_asked_for_again(source, server, labels, out):
    (out / "shard-000001.tar").unlink()
    problem = f"{server.url}/shard-000001.tar: cannot be downloaded: 404 File not found"
    assert list(source_problems(source, labels)) == [problem]
    assert server.tars().count("/shard-000001.tar") == 1
    with pytest.raises(DataError, match=r"^http://.*/nothing/shards\.json: cannot be downloaded: 404 File not found$"):
        WebDataset(Source("dataset.val", f"{server.url}/nothing/shards.json")).open(labels)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[:-512], "has {less} bytes, its index says {size}"),
        (lambda data: data + b"\0", "has more than {size} bytes"),
        (lambda data: data[:-1] + b"\1", "has the SHA-256 digest "),
    ],
)
def test_what_is_not_what_the_index_says_is_not_kept(source, labels, out, cache, damage, problem):
    path = out / "shard-000000.tar"
    data = path.read_bytes()
    path.write_bytes(damage(data))
    with pytest.raises(DataError) as raised:
        WebDataset(source).open(labels)[0]
    assert problem.format(size=len(data), less=len(data) - 512) in str(raised.value)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_the_limit_holds_and_what_was_used_last_stays(source, server, labels, out, cache, monkeypatch, capsys):
    sizes = [path.stat().st_size for path in sorted(out.glob("*.tar"))]
    monkeypatch.setenv("ONEFORMER_CACHE_GB", f"{sum(sizes) / 1e9 - 1e-7:.9f}")
    samples = WebDataset(source).open(labels)
    assert "note: training needs up to 0.00 GB of shards at once but the cache holds 0.00 GB" in capsys.readouterr().err
    assert [samples[number].name for number in (0, 1, 0)] == ["11.png", "12.png", "11.png"]
    assert server.tars() == ["/shard-000000.tar", "/shard-000000.tar", "/shard-000001.tar"]
    assert kept(cache) == [f"{samples.listing.shards[0].sha256}.tar"]


def test_using_a_kept_file_counts(source, labels, cache):
    samples = WebDataset(source).open(labels)
    for number in (0, 1):
        samples[number]
    paths = [cache / f"{shard.sha256}.tar" for shard in samples.listing.shards]
    for path in paths:
        os.utime(path, (1000, 1000))
    samples[1]
    assert [path.stat().st_mtime > 1000 for path in paths] == [False, True]


def test_only_as_many_files_go_as_must(cache, monkeypatch):
    monkeypatch.setenv("ONEFORMER_CACHE_GB", "0.000001")
    cache.mkdir(parents=True)
    for used, name in enumerate(("old.tar", "young.tar", ".left.tmp", "aa.lock")):
        (cache / name).write_bytes(bytes(400))
        os.utime(cache / name, (1000 + used, 1000 + used))
    (cache / ".growing.tmp").write_bytes(b"")
    remote._make_room(cache, 300)
    assert sorted(path.name for path in cache.iterdir()) == [".growing.tmp", "aa.lock"]
    (cache / "a.tar").write_bytes(bytes(300))
    remote._make_room(cache, 300)
    assert kept(cache) == ["a.tar"]


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("ONEFORMER_CACHE_GB", text)
    with pytest.raises(UsageError, match=rf"^ONEFORMER_CACHE_GB: '{text}' is not a number of gigabytes above 0$"):
        remote.limit()


def test_a_kept_file_that_was_cut_off_is_fetched_again(source, server, labels, cache):
    names(source, labels)
    for path in cache.glob("*.tar"):
        path.write_bytes(path.read_bytes()[:100])
    assert names(source, labels) == ["11.png", "12.png"]
    assert len(server.tars()) == 4


def test_a_redirection_to_a_file_of_this_machine_is_not_followed(server, labels):
    with pytest.raises(DataError, match=r"/away/shards\.json: cannot be downloaded: "):
        WebDataset(Source("dataset.val", f"{server.url}/away/shards.json")).open(labels)


def test_shards_on_a_server_need_an_index_with_digests(source, server, labels, out):
    with pytest.raises(DataError, match=r"\.tar: shards on a server need an index; name the shards\.json"):
        WebDataset(Source("dataset.val", f"{server.url}/shard-000000.tar", type="webdataset")).open(labels)
    document = json.loads((out / "shards.json").read_text())
    document["shards"][0]["sha256"] = None
    (out / "shards.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"/shard-000000\.tar: its index has no sha256 for it$"):
        WebDataset(source).open(labels)


def test_a_server_that_is_away_is_named(labels):
    with pytest.raises(DataError, match=r"^http://127\.0\.0\.1:9/shards\.json: cannot be downloaded: .*refused"):
        WebDataset(Source("dataset.val", "http://127.0.0.1:9/shards.json")).open(labels)
