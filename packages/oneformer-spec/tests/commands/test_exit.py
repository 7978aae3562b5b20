"""Every command ends with a fixed exit code and at most a line: a traceback comes only with debug."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from oneformer_spec.commands.exit import note, run_reporting
from oneformer_spec.errors import CheckpointError, DataError, OneFormerError, PluginError, SpecError, UsageError


def raiser(error):
    def action():
        raise error

    return action


def test_success_is_silent(capsys):
    assert run_reporting(lambda: "anything") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "code"),
    [(OneFormerError, 1), (DataError, 1), (CheckpointError, 1), (PluginError, 1), (SpecError, 2), (UsageError, 2)],
)
def test_errors_for_the_user_are_their_message(capsys, kind, code):
    assert run_reporting(raiser(kind("data/a.png: is broken"))) == code
    assert capsys.readouterr() == ("", "data/a.png: is broken\n")


def test_a_spec_tells_all_its_problems(capsys):
    error = SpecError(["a.yaml:1:2: x: wrong", "a.yaml:3:4: y: wrong"])
    assert error.problems == ("a.yaml:1:2: x: wrong", "a.yaml:3:4: y: wrong")
    assert run_reporting(raiser(error)) == 2
    assert capsys.readouterr().err == "a.yaml:1:2: x: wrong\na.yaml:3:4: y: wrong\n"


def test_any_other_message_is_one_line(capsys):
    run_reporting(raiser(DataError("a.png: two\nlines")))
    run_reporting(raiser(RuntimeError("out of\n\nmemory")))
    assert capsys.readouterr().err.splitlines() == [
        "a.png: two lines",
        "RuntimeError: out of  memory (run again with --debug to see where)",
    ]


def test_an_unforeseen_error_points_to_debug(capsys):
    assert run_reporting(raiser(ValueError("bad"))) == 1
    assert capsys.readouterr().err == "ValueError: bad (run again with --debug to see where)\n"


def test_an_error_without_words(capsys):
    assert run_reporting(raiser(AssertionError())) == 1
    assert capsys.readouterr().err.startswith("AssertionError: no message")


@pytest.mark.parametrize("error", [ValueError("bad"), DataError("bad")])
def test_debug_shows_where(capsys, error):
    assert run_reporting(raiser(error), debug=True) == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("bad")
    assert "--debug" not in first
    assert rest[0] == "Traceback (most recent call last):"
    assert any("in action" in line for line in rest)


def test_debug_shows_the_cause(capsys):
    def action():
        try:
            raise OSError("the cause")
        except OSError as error:
            raise DataError("the error") from error

    run_reporting(action, debug=True)
    assert "OSError: the cause" in capsys.readouterr().err


def test_without_debug_there_is_no_traceback(capsys):
    for error in (ValueError("bad"), DataError("bad"), KeyboardInterrupt()):
        run_reporting(raiser(error))
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_is_130(capsys):
    assert run_reporting(raiser(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_is_143_and_unwinds(capsys):
    unwound = []

    def action():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            unwound.append(True)

    assert run_reporting(action) == 143
    assert unwound
    assert capsys.readouterr().err == "terminated\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_handles_sigterm_keeps_it(monkeypatch):
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        assert run_reporting(lambda: signal.raise_signal(signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [True]


def test_it_works_off_the_main_thread():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run_reporting(lambda: None)))
    thread.start()
    thread.join()
    assert codes == [0]


def test_an_exit_asked_for_goes_on():
    with pytest.raises(SystemExit):
        run_reporting(raiser(SystemExit(5)))


def test_a_broken_pipe_of_somebody_else_is_an_error(capfd):
    assert run_reporting(raiser(BrokenPipeError(32, "Broken pipe"))) == 1
    assert "BrokenPipeError" in capfd.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stops_reading_is_no_error(unbuffered):
    code = (
        "import sys\n"
        "from oneformer_spec.commands.exit import run_reporting\n"
        "sys.exit(run_reporting(lambda: [print('x' * 100) for _ in range(100000)]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert process.stdout.readline() == b"x" * 100 + b"\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_notes_go_to_stderr_without_a_place(capsys):
    note("train.num_gpus: 2 GPUs are asked for")
    assert capsys.readouterr() == ("", "note: train.num_gpus: 2 GPUs are asked for\n")
