"""Every field of the spec does something, waits for its feature in one table, or says that it has no effect.

A field acts when the same observer sees something else with another value of it. See `acts/row.py` for what a row says.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from acts import dataset, deploy, model, tasks, train
from acts.observers import training
from acts.pending import setting, waiting
from acts.row import Case, Observer, Row, filled
from acts.settings import SETTINGS, copy_data, save_model, write_graph

from oneformer_spec.commands.unavailable import PENDING
from oneformer_spec.errors import OneFormerError, SpecError
from oneformer_spec.loading.load import load_spec
from oneformer_spec.plugins.builtins import oneformer_backbones
from oneformer_spec.plugins.registry import registry
from oneformer_spec.schema import Spec
from oneformer_spec.schema.tree import leaves

ROWS: tuple[Row, ...] = (*model.ROWS, *dataset.ROWS, *train.ROWS, *tasks.ROWS, *deploy.ROWS)
NO_EFFECT = [path for path, leaf in leaves().items() if leaf.option.no_effect]
BUILT_IN = [backbone.name for backbone in oneformer_backbones()]
Start = Callable[[tuple[str, ...]], Case]


def of_plugin(path: str) -> bool:
    """Tell whether a field belongs to a backbone that some installed plugin brought."""
    plugins = Spec().model.backbone.sections.keys() - {*BUILT_IN}
    return any(path.startswith(f"model.backbone.{name}.") for name in plugins)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small networks are fastest on one thread, and sums come in one order."""
    threads, variables = torch.get_num_threads(), dict(os.environ)
    switches = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.set_num_threads(1)
    os.environ.pop("ONEFORMER_ENCRYPTION_KEY", None)
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = switches
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture(scope="module")
def places(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What words can point to: data, two models, one of three classes, and a checkpoint to continue from."""
    root = tmp_path_factory.mktemp("acts")
    found = {"run": root / "run", "data": root / "data"}
    found |= {name: root / f"{name}.pth" for name in ("model", "other", "three", "resumable")}
    for folder in (found["run"], found["data"]):
        folder.mkdir()
    copy_data(repository / "examples" / "nuclei", found["data"])
    found["graph"] = write_graph(repository, root / "graph.onnx")
    words = filled(SETTINGS, found)
    for seed, name in enumerate(("model", "other")):
        save_model(words, found[name], seed=seed)
    three = ("model.sem_seg_head.num_classes=3", "dataset.label_map=$data/label_map_three.json")
    save_model(filled((*SETTINGS, *three), found), found["three"], seed=0)
    case = Case(words, found["run"])
    training(case)
    shutil.copy(case.find("oneformer_model_latest.pth"), found["resumable"])
    return found


@pytest.fixture(scope="module")
def start(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Return a function that turns words on top of the settings into a case."""

    def make(words: tuple[str, ...]) -> Case:
        folder = tmp_path_factory.mktemp("case")
        return Case(filled((*SETTINGS, *words), {**places, "run": folder}), folder)

    return make


@pytest.fixture(scope="module")
def before(start: Start) -> Callable[[Row], object]:
    """Return a function that observes a row without its change, each observer once per base."""
    seen: dict[tuple[Observer, tuple[str, ...]], object] = {}

    def observe(row: Row) -> object:
        key = row.observe, row.base
        if key not in seen:
            seen[key] = row.observe(start(row.base))
            assert row.observe(start(row.base)) == seen[key], "the observer sees a difference where there is none"
        return seen[key]

    return observe


class TestCoverage:
    def test_every_field_is_in_one_place(self):
        acting = [row.path for row in ROWS]
        pending = {leaf.path for _, leaf in waiting()}
        fields = {path for path in leaves() if not of_plugin(path)}
        assert sorted(fields - {*acting, *pending, *NO_EFFECT}) == []
        assert sorted(path for path in acting if acting.count(path) > 1 or path not in fields) == []
        assert sorted({*acting} & ({*NO_EFFECT, *pending})) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_the_field_acts(row: Row, start: Start, before: Callable[[Row], object]) -> None:
    was = before(row)
    case = start((*row.base, *row.changes))
    if row.refusal is None:
        assert row.observe(case) != was
        return
    with pytest.raises(OneFormerError) as caught:
        row.observe(case)
    assert row.refusal in str(caught.value)


@pytest.mark.parametrize(("row", "leaf"), waiting(), ids=lambda part: part.path)
class TestPending:
    def test_loading_accepts_it(self, row, leaf, start):
        assert leaf.path in start((setting(leaf),)).spec.written

    def test_the_command_refuses_it(self, row, leaf, start):
        case = start((setting(leaf),))
        for name in row.commands:
            with pytest.raises(SpecError) as caught:
                case.start(name)
            (problem,) = [line for line in caught.value.problems if line.startswith(f"{leaf.path}: ")]
            assert "not available yet" in problem
        assert case.files() == []


@pytest.mark.parametrize("path", NO_EFFECT)
def test_a_field_without_effect_is_named(path: str) -> None:
    leaf = leaves()[path]
    value = {bool: "true", dict: "{panoptic: 1.0}", str: "panoptic"}[type(leaf.default)]
    notes = load_spec([], [f"{path}={value}"]).notes
    assert [note for note in notes if note.startswith(f"{path} has no effect: ")] == [
        f"{path} has no effect: {leaf.option.no_effect}"
    ]


def test_every_command_that_is_named_is_there() -> None:
    assert {name for row in PENDING for name in row.commands} <= registry().commands.keys()


def test_the_documentation_shows_the_parts_that_act(repository: Path) -> None:
    assert (repository / "tests" / "acts" / "plugin.py").read_text() in (repository / "docs" / "plugins.md").read_text()
