"""A host full of broken plugins: each costs one line, and every command works all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "from oneformer_spec.hooks import *\n"


def hook(kind: str, text: str) -> str:
    return f"{HEAD}@hookimpl\ndef oneformer_{'losse' if kind == 'loss' else kind}s():\n    return {text}\n"


# The distribution's name -> its module, and what the line about it must say.
BROKEN = {
    "import-error": ("import a_library_that_is_missing", "No module named 'a_library_that_is_missing'"),
    "quits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "signature": (f"{HEAD}@hookimpl\ndef oneformer_commands(spec): return []", "takes no argument, found (spec)"),
    "unknown-hook": (f"{HEAD}@hookimpl\ndef oneformer_comands(): return []", "did you mean oneformer_commands?"),
    "generator": (hook("command", "0").replace("return 0", "yield 0"), "found a generator"),
    "nothing": (hook("command", "None"), "found None"),
    "one-object": (hook("backbone", "Backbone('a', 'b:c', 'd:e')"), "that is not in a list"),
    "no-mark": ("def oneformer_commands(): return []", "oneformer_commands lacks @hookimpl"),
    "ours": (hook("command", "[Command('validate', 'a:b', 'Mine.')]"), "the name is ours"),
    "ours-too": (hook("backbone", "[Backbone('swin', 'a:b', 'c:d')]"), "the name is ours"),
    "our-suffix": (hook("runtime", "[Runtime('x', 'a:b', ('.onnx',))]"), "only where the spec names it"),
    "twin-a": (hook("backbone", "[Backbone('twin', 'a:b', 'c:d')]"), "two plugins claim the backbone 'twin'"),
    "slow": ("import time; time.sleep(0.6)\n" + hook("loss", "[Loss('slow', 'json:dumps')]"), "s to load"),
    "empty-name": (hook("backbone", "[Backbone('', 'a:b', 'c:d')]"), "has the name ''"),
    "odd-name": (hook("command", "[Command('a b', 'a:b', 'C.')]"), "has the name 'a b'"),
    "no-dot": (hook("runtime", "[Runtime('y', 'a:b', ('y',))]"), "write '.y'"),
    "no-target": (hook("loss", "[Loss('z', '')]"), "its target is ''"),
}
QUIET = {
    "twin-b": BROKEN["twin-a"][0],  # the line is that of twin-a
    "prints": "print('hello')\n" + hook("loss", "[Loss('prints', 'json:dumps')]"),
}
# What only `plugins --check`, or the use of the name, finds.
HIDDEN = {
    "no-module": (hook("loss", "[Loss('gone', 'gone.module:Loss')]"), "No module named 'gone'"),
    "no-attribute": (hook("loss", "[Loss('none', 'json:nothing')]"), "has no attribute 'nothing'"),
    "no-app": (hook("command", "[Command('appless', 'json:dumps', 'A.', 'app')]"), "must be a Typer app"),
    "strange-type": (hook("loss", "[Loss('odd', 'json:dumps', 'strange_type:Options')]"), "cannot hold complex"),
    "raises": (hook("command", "[Command('raises', 'raises:run', 'R.')]"), None),
}
EXTRA = {
    "strange_type": "\nimport dataclasses\n@dataclasses.dataclass\nclass Options:\n    a: complex = 0j\n",
    "raises": "\ndef run(spec):\n    raise RuntimeError('no\\nlicence')\n",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    modules = {name: text for name, (text, _) in (BROKEN | HIDDEN).items()} | QUIET
    for name, text in modules.items():
        module = name.replace("-", "_")
        metadata = folder / f"{module}-2.5.dist-info"
        metadata.mkdir()
        needs = "Requires-Dist: oneformer-spec>=9\n" if name == "raises" else ""
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n{needs}")
        (metadata / "entry_points.txt").write_text(f"[oneformer]\n{module} = {module}\n")
        (folder / f"{module}.py").write_text(text + EXTRA.get(module, ""))
    return folder


@pytest.fixture
def oneformer(site: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(site))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "oneformer_cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_each_costs_one_line_that_names_it_and_the_cause_and_nothing_else(oneformer) -> None:
    done = oneformer("--version")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    lines = [line for line in done.stderr.splitlines() if line != "hello"]
    for name, (_, cause) in BROKEN.items():
        assert [line for line in lines if f"{name} 2.5" in line and cause in line], (name, cause)
    requirement = [line for line in lines if "raises 2.5: it requires oneformer-spec>=9, and 0." in line]
    assert len(lines) == len(BROKEN) + len(requirement) == len(BROKEN) + 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["get-spec", "train"], ["get-schema"]])
def test_no_other_command_suffers(oneformer, arguments: list[str]) -> None:
    done = oneformer(*arguments)
    assert (done.returncode, "hello" in done.stdout) == (0, False)


def test_the_check_finds_what_is_hidden_and_exits_with_1(oneformer) -> None:
    done = oneformer("plugins", "--check")
    assert done.returncode == 1
    for name, (_, cause) in HIDDEN.items():
        if cause is not None:
            (line,) = [line for line in done.stdout.splitlines() if f"{name} 2.5" in line]
            assert cause in line
            assert line.endswith(f"python -m pip uninstall {name}")


def test_what_its_command_raises_is_one_line_with_its_version_and_requirement(oneformer) -> None:
    done = oneformer("raises")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "command 'raises' of raises 2.5 failed: RuntimeError: no licence; it requires oneformer-spec>=9, and 0."
    )


def test_a_variable_leaves_all_of_them_out(oneformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEFORMER_PLUGINS", "")
    done = oneformer("--version")
    assert (done.returncode, done.stderr) == (0, "")
