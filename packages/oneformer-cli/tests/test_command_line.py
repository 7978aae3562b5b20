"""The command line as a user meets it: a process, what it prints, and its exit code."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from oneformer_cli.main import run
from oneformer_spec.plugins.packages import VERB_PACKAGES
from oneformer_spec.plugins.registry import Registry

HEAVY = (
    "torch",
    "numpy",
    "yaml",
    "ruamel",
    "PIL",
    "rich",
    "lightning",
    "pytorch_lightning",
    "jsonschema",
    "onnxruntime",
)

RUN_AND_LIST_MODULES = """
import sys
from oneformer_cli.main import main
try:
    main(sys.argv[1:])
finally:
    print("modules:", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def oneformer(*arguments: str, program: tuple[str, ...] = ("-m", "oneformer_cli")) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("plugin")
class TestHelp:
    @pytest.mark.parametrize(
        "arguments", [["--help"], ["-h"], [], ["plugins", "-h"], ["get-spec", "-h"], ["measure", "-h"]]
    )
    def test_imports_nothing_heavy(self, arguments: list[str]) -> None:
        done = oneformer(*arguments, program=("-c", RUN_AND_LIST_MODULES))
        modules = done.stderr.rpartition("modules:")[2].split()
        assert "typer" in modules
        assert set(HEAVY).isdisjoint(modules)
        assert "leaf_targets" not in modules

    def test_lists_the_commands_of_plugins(self) -> None:
        listing = [" ".join(line.split()) for line in oneformer("--help").stdout.splitlines()]
        assert "measure Measure leaves." in listing
        assert "herbarium Keep leaves." in listing
        assert "plugins List the installed plugins and what each provides." in listing

    @pytest.mark.parametrize("option", ["-h", "--help"])
    def test_of_a_task_shows_spec_files_settings_and_flags(self, option: str) -> None:
        done = oneformer("measure", option)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: oneformer measure [OPTIONS] ")
        for word in ("KEY=VALUE", "-e, --experiment_spec FILE", "--dry-run", "Only say it.", "--debug", "-h, --help"):
            assert word in done.stdout

    @pytest.mark.parametrize("option", ["-h", "--help"])
    def test_of_an_app_is_the_apps_own_and_plain(self, option: str) -> None:
        done = oneformer("herbarium", option, program=("-c", RUN_AND_LIST_MODULES))
        assert "Usage: oneformer herbarium [OPTIONS] COMMAND" in done.stdout
        assert "show" in done.stdout
        assert "rich" not in done.stderr.rpartition("modules:")[2].split()
        assert "Usage: oneformer herbarium add [OPTIONS]" in oneformer("herbarium", "add", option).stdout


@pytest.mark.usefixtures("plugin")
class TestApp:
    def test_gets_all_its_words(self) -> None:
        done = oneformer("herbarium", "add", "--count", "3", "ivy")
        assert (done.returncode, done.stdout) == (0, "kept 3 ivy\n")

    def test_a_data_error_is_its_line_and_exit_code_1(self) -> None:
        done = oneformer("herbarium", "add", "ivy", "--fail", "data")
        assert (done.returncode, done.stderr) == (1, "ivy: leaf 3: is torn\n")

    def test_an_unknown_error_is_one_line_and_debug_shows_where(self) -> None:
        done = oneformer("herbarium", "add", "ivy", "--fail", "bug")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "ZeroDivisionError: no leaf" in done.stderr
        debugged = oneformer("herbarium", "--debug", "add", "ivy", "--fail", "bug")
        assert debugged.returncode == 1
        assert "leaf_targets.py" in debugged.stderr

    def test_wrong_arguments_are_exit_code_2(self) -> None:
        assert oneformer("herbarium", "add").returncode == 2
        assert oneformer("herbarium", "add", "ivy", "--count", "many").returncode == 2

    def test_a_target_that_is_no_app_or_is_nowhere_is_named(self) -> None:
        wrong = oneformer("press")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
        assert "leaf_targets:not_an_app: command 'press' must be a Typer app, found 'leaf'" in wrong.stderr
        assert "leaf_targets:nowhere" in oneformer("lose").stderr


@pytest.mark.usefixtures("broken_plugin")
class TestBrokenPlugin:
    def test_is_one_warning_that_names_its_distribution_and_the_rest_works(self) -> None:
        done = oneformer("herbarium", "show")
        assert (done.returncode, done.stdout) == (0, "all leaves\n")
        warnings = done.stderr.splitlines()
        assert len(warnings) == 2
        assert "fern-tools" in warnings[0]
        assert "oneformer_comands" in warnings[0]
        assert "moss-tools" in warnings[1]
        assert "a_library_that_is_missing" in warnings[1]

    def test_is_marked_in_the_list_of_plugins(self) -> None:
        listing = oneformer("plugins").stdout
        assert re.search(r"leaf-tools 2\.5  \(\d\.\d\d s\)\n  commands:   herbarium, lose, measure, press\n", listing)
        assert re.search(r"moss-tools 2\.5  \(\d\.\d\d s\)\n  broken: moss_hooks: ModuleNotFoundError", listing)


@pytest.mark.usefixtures("rival")
class TestClash:
    def test_it_is_a_line_per_name_and_everything_else_works(self) -> None:
        done = oneformer("--version")
        assert done.returncode == 0
        lines = done.stderr.splitlines()
        assert len(lines) == 4
        assert all("ivy-tools 2.5 and leaf-tools 2.5; python -m pip uninstall " in line for line in lines)

    def test_a_name_that_two_claim_is_listed_and_running_it_names_both(self) -> None:
        assert "herbarium Disabled: two plugins declare it." in " ".join(oneformer("--help").stdout.split())
        done = oneformer("herbarium", "show")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].startswith(
            "two plugins claim the command 'herbarium', which neither gets: "
        )


@pytest.mark.usefixtures("plugin")
def test_a_misspelt_command_is_guessed() -> None:
    done = oneformer("mesure")
    assert done.returncode == 2
    assert "No such command 'mesure'. Did you mean 'measure'?" in done.stderr


@pytest.mark.parametrize("verb", VERB_PACKAGES)
@pytest.mark.parametrize("arguments", [[], ["-e", "spec.yaml", "a=b"], ["--help"]])
def test_a_verb_without_its_package_names_the_pip_command(
    verb: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(Registry(), [verb, *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f"python -m pip install '{VERB_PACKAGES[verb]}'\n")


def test_a_missing_verb_is_listed_and_a_present_one_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(Registry(), ["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "train Not installed; comes with oneformer-train." in words


def test_the_version_is_that_of_the_distribution() -> None:
    done = oneformer("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("oneformer-cli 0.")
