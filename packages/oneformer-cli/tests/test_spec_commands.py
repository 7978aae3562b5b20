"""`oneformer get-spec`, `get-schema`, `validate`: what goes to stdout, and that it is what the other end reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from oneformer_spec.loading.load import to_dict
from oneformer_spec.schema import Spec


def oneformer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oneformer_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


ONLY_LEAF_TOOLS = """
from importlib.metadata import entry_points
from oneformer_spec.plugins import registry
wanted = ("leaf-tools", "oneformer-cli", "oneformer-spec")
points = entry_points(group="oneformer")
found = registry.load(point for point in points if point.dist.name in wanted or point.dist.version == "2.5")
registry.registry = lambda: found
from oneformer_cli.main import main
main()
"""


def only_leaf_tools(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `oneformer` as if nothing but the command line and the plugins of these tests were installed."""
    command = [sys.executable, "-c", ONLY_LEAF_TOOLS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("everything", [[], ["--all"]])
@pytest.mark.parametrize("format", ["yaml", "json"])
def test_a_printed_spec_is_valid_as_it_is(tmp_path: Path, format: str, everything: list[str]) -> None:
    printed = oneformer("get-spec", "train", "--format", format, *everything)
    assert (printed.returncode, printed.stderr) == (0, "")
    file = tmp_path / f"spec.{format}"
    file.write_text(printed.stdout)
    checked = oneformer("validate", "-e", file)
    assert (checked.returncode, checked.stdout) == (0, f"{file}: valid\n"), checked.stderr


def test_all_fields_as_json_are_nothing_but_the_document() -> None:
    document = json.loads(oneformer("get-spec", "train", "--all", "--format", "json").stdout)
    assert document == to_dict(Spec())


def test_the_schema_is_a_schema_and_accepts_a_printed_spec() -> None:
    schema = json.loads(oneformer("get-schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    spec = json.loads(oneformer("get-spec", "train", "--all", "--format", "json").stdout)
    jsonschema.validate(spec, schema, cls=jsonschema.Draft202012Validator)


def test_the_schema_of_a_task_requires_more() -> None:
    assert "required" not in json.loads(oneformer("get-schema").stdout)
    assert "required" in json.loads(oneformer("get-schema", "train").stdout)


@pytest.mark.parametrize("words", [["get-spec"], ["get-schema"], ["validate", "-e", "spec.yaml", "--task"]])
def test_an_unknown_task_is_exit_code_2(words: list[str]) -> None:
    done = oneformer(*words, "knit")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no task 'knit'; a spec drives train, ")


def test_every_mistake_of_a_spec_is_a_located_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("train:\n  num_epochs: -1\n  nonsense: 1\nmodell: {}\n")
    done = oneformer("validate", "-e", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(": ")[0] for line in sorted(done.stderr.splitlines())] == [
        f"{file}:2:15",
        f"{file}:3:3",
        f"{file}:4:1",
    ]


def test_a_setting_is_checked_like_the_file(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("train:\n  num_epochs: -1\n")
    assert oneformer("validate", "train.num_epochs=2", "-e", file).returncode == 0
    assert oneformer("validate", "-e", file, "train.num_epochs=0").stderr.startswith("train.num_epochs=0: ")


def test_with_a_task_the_files_that_it_needs_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(f"dataset:\n  train:\n    images: {tmp_path / 'absent'}\n")
    assert oneformer("validate", "-e", file).returncode == 0
    done = oneformer("validate", "-e", file, "--task", "train")
    assert done.returncode == 2
    assert "absent" in done.stderr


def test_problems_of_the_data_are_lines_and_exit_code_1(data_package: Path, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("train: {num_epochs: 2}")
    found = only_leaf_tools("validate", "-e", str(file), "--data")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.splitlines() == [
        "leaf.png: item 0: is torn",
        "leaf.png: item 1: is torn",
        f"{file}: 2 problems in the data",
    ]
    found = only_leaf_tools("validate", "-e", str(file), "train.num_epochs=1", "--data")
    assert found.stderr.splitlines()[1:] == [f"{file}: 1 problem in the data"]


def test_without_the_package_that_checks_data_its_command_is_named(plugin: Path, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("train: {num_epochs: 2}")
    found = only_leaf_tools("validate", "-e", str(file), "--data")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "--data needs oneformer-data; install it with: python -m pip install 'oneformer-data'\n"


def test_what_a_task_would_refuse_is_not_valid_for_it(tmp_path: Path) -> None:
    file, data, model = (tmp_path / name for name in ("spec.yaml", "a.json", "model.pth"))
    file.write_text(f"evaluate: {{num_nodes: 2, checkpoint: {model}}}\ndataset: {{val: {{annotations: {data}}}}}")
    data.touch()
    model.touch()
    done = oneformer("validate", "-e", file, "--task", "evaluate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "evaluate.num_nodes" in done.stderr
    assert "not available yet" in done.stderr


@pytest.mark.parametrize("words", [[], ["--task", "train"], ["--task", "evaluate"]])
def test_validate_never_imports_torch(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("train: {num_epochs: 2}")
    code = (
        "import sys\nfrom oneformer_cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(sorted({'torch', 'timm', 'lightning', 'PIL'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "validate", "-e", str(file), *words]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout.endswith("[]\n")


HOSTILE = {
    "laughs.yaml": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "deep.yaml": "a: " + "[" * 20_000,
    "deep.json": '{"a": ' + "[" * 200_000,
    "tag.yaml": 'results_dir: !!python/object/apply:os.system ["touch hostile"]',
    "nan.yaml": "train: {optim: {lr: .nan}}",
    "long.yaml": "results_dir: " + "x" * 10_000_000,
    "nul.yaml": 'results_dir: "a\0b"',
    "twice.json": '{"train": {"seed": 1, "seed": 2}}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_located_lines(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(HOSTILE[name])
    done = subprocess.run(
        [sys.executable, "-m", "oneformer_cli", "validate", "-e", str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 2
    assert all(line.startswith(f"{file}:") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("task", ["train", "evaluate", "inference", "export", "gen_trt_engine", "quantize"])
def test_every_task_has_a_spec_and_a_schema(task: str) -> None:
    assert oneformer("get-spec", task).stdout.startswith("# The fields of")
    assert task in json.loads(oneformer("get-schema", task).stdout)["properties"]
