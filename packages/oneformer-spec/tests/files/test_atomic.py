"""A file is wholly new or as it was, and nothing else is left beside it."""

import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from oneformer_spec.errors import OneFormerError
from oneformer_spec.files.atomic import remove_leftovers, write_atomically, write_output


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b"old")
    return path


def beside(path):
    return sorted(entry.name for entry in path.parent.iterdir())


@pytest.mark.parametrize(
    ("content", "written"),
    [(b"\x00new", b"\x00new"), ("Größe", "Größe".encode()), (lambda file: file.write(b"by hand"), b"by hand")],
)
def test_bytes_text_and_functions_are_written(file, content, written):
    write_atomically(file, content)
    assert file.read_bytes() == written
    assert beside(file) == ["result.json"]


def test_missing_folders_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(file, error):
    def fail(opened):
        opened.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomically(file, fail)
    assert file.read_bytes() == b"old"
    assert beside(file) == ["result.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(file, step, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert beside(file) == ["result.json"]


def test_the_old_file_is_there_until_the_new_one_is_whole(file):
    def look(opened):
        opened.write(b"new")
        opened.flush()
        assert file.read_bytes() == b"old"

    write_atomically(file, look)
    assert file.read_bytes() == b"new"


def test_a_folder_in_the_way_stays(tmp_path):
    (tmp_path / "name").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "name", b"x")
    assert os.listdir(tmp_path) == ["name"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"x")
        assert os.umask(umask) == umask  # and nobody changed it
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize("name", ["a" * 255, "ß" * 127, "模" * 85])
def test_the_longest_names_work(tmp_path, name):
    write_atomically(tmp_path / name, b"x")
    assert os.listdir(tmp_path) == [name]


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "epoch.pth").write_bytes(b"epoch")
    (tmp_path / "latest.pth").symlink_to("epoch.pth")
    write_atomically(tmp_path / "latest.pth", b"latest")
    assert not (tmp_path / "latest.pth").is_symlink()
    assert (tmp_path / "epoch.pth").read_bytes() == b"epoch"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"through")
    reader.join()
    assert received == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


class TestLeftovers:
    def test_of_a_killed_writer_go_and_everything_else_stays(self, file):
        script = (
            "import os, sys; from oneformer_spec.files.atomic import write_atomically\n"
            "write_atomically(sys.argv[1], lambda f: (f.write(b'half'), f.flush(), os.kill(os.getpid(), 9)))"
        )
        assert subprocess.run([sys.executable, "-c", script, file], check=False).returncode == -signal.SIGKILL
        (file.parent / ".mine.tmp").touch()
        assert len(beside(file)) == 3
        remove_leftovers(file.parent)
        assert beside(file) == [".mine.tmp", "result.json"]
        assert file.read_bytes() == b"old"

    def test_a_file_that_is_being_written_stays(self, file):
        write_atomically(file, lambda opened: (opened.write(b"new"), remove_leftovers(file.parent)))
        assert file.read_bytes() == b"new"

    def test_a_missing_folder_has_none_and_stays_missing(self, tmp_path):
        remove_leftovers(tmp_path / "missing")
        assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_written_to(file, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_file_that_the_user_named_and_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OneFormerError, match=r"file/scores\.json: cannot be written: File exists"):
        write_output(tmp_path / "file" / "scores.json", "{}")
    assert (tmp_path / "file").read_text() == "mine"
