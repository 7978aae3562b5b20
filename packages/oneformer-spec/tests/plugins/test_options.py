"""Options of plugins are checked like built-in fields, as sections of the spec and as entries of lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from oneformer_spec.commands.task_command import run_task
from oneformer_spec.documents.editor_schema import json_schema
from oneformer_spec.documents.resolved import dump
from oneformer_spec.documents.template import field_table, render_spec
from oneformer_spec.errors import PluginError, SpecError
from oneformer_spec.labels import Label, Labels
from oneformer_spec.loading.load import load_spec, to_dict
from oneformer_spec.plugins.entries import make, shared_options
from oneformer_spec.plugins.option import Entry
from oneformer_spec.plugins.registry import registry
from oneformer_spec.segmentation.manifest import Manifest

PLUGIN = """
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Literal

class Colour(Enum):
    RED = "red"
    GREEN = "green"

@dataclass(frozen=True)
class Inner:
    depth: int = 3

@dataclass(frozen=True)
class Options:
    '''A part of a plugin.'''

    width: int = option(32, minimum=8, help="Channels.", common=True)
    kinds: list[str] = field(default_factory=lambda: ["a"])
    scale: float | None = None
    extra: Mapping[str, int] = field(default_factory=dict)
    colour: Colour = Colour.RED
    way: Literal["up", "down"] = "up"
    file: Path = Path("x")
    inner: Inner = field(default_factory=Inner)

@dataclass(frozen=True)
class NoDefault:
    width: int

@dataclass(frozen=True)
class StrangeType:
    width: complex = 0j

@dataclass(frozen=True)
class WrongDefault:
    width: int = "wide"

HERE = "fern_module"
OPTIONS = HERE + ":Options"

def give(*given, **options):
    if options.get("width") == 99:
        raise RuntimeError("too\\nwide")
    return given, options

def plain(spec, speed, fast=False):
    return spec, speed, fast
"""
EVERYWHERE = """
@hookimpl
def oneformer_commands(): return [Command("fern", HERE + ":give", "Count.", options=OPTIONS)]
@hookimpl
def oneformer_backbones(): return [Backbone("fern", HERE + ":give", OPTIONS)]
@hookimpl
def oneformer_datasets(): return [Dataset("fern", "a:b", ("semantic",), options=OPTIONS)]
@hookimpl
def oneformer_evaluators(): return [Evaluator("fern", "a:b", "semantic", options=OPTIONS)]
@hookimpl
def oneformer_runtimes(): return [Runtime("fern", "a:b", (".fern",), options=OPTIONS)]
@hookimpl
def oneformer_quantizers(): return [Quantizer("fern", "a:b", options=OPTIONS)]
@hookimpl
def oneformer_transforms(): return [Transform("fern", HERE + ":give", OPTIONS)]
@hookimpl
def oneformer_losses(): return [Loss("fern", HERE + ":give", OPTIONS), Loss("bare", HERE + ":give")]
@hookimpl
def oneformer_callbacks(): return [Callback("fern", HERE + ":give", OPTIONS)]
@hookimpl
def oneformer_loggers(): return [Logger("fern", HERE + ":give", OPTIONS)]
"""
SECTIONS = (
    "fern",
    "model.backbone.fern",
    "dataset.formats.fern",
    "evaluate.evaluators.fern",
    "runtimes.fern",
    "quantize.backends.fern",
)
LISTS = ("dataset.augmentation.extra", "train.losses", "train.callbacks", "train.loggers")


@pytest.fixture
def fern(install) -> None:
    install(fern=PLUGIN + EVERYWHERE)


def problems(*overrides: str, task: str | None = None) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        load_spec([], overrides, task=task)
    return caught.value.problems


@pytest.mark.usefixtures("fern")
@pytest.mark.parametrize("section", SECTIONS)
class TestSections:
    def test_it_is_read_typed_shown_and_written(self, section: str, tmp_path: Path) -> None:
        words = [f"{section}.width=64", f"{section}.colour=green", f"{section}.file=a/b", f"{section}.inner.depth=5"]
        spec = load_spec([], words).spec
        value = spec
        for name in section.split("."):
            holders = [getattr(value, holder, None) for holder in ("commands", "sections")]
            held = next((held for held in holders if held is not None and name in held), None)
            value = value[name] if hasattr(value, "keys") else held[name] if held else getattr(value, name)
        assert (value.width, value.colour.name, value.file, value.inner.depth) == (64, "GREEN", Path("a/b"), 5)
        assert value.kinds == ["a"]
        assert f"| `{section}.width` | `32` | a whole number >= 8 | Channels. |" in field_table(section)
        assert "width: 32" in render_spec("train", everything=True)
        node = json_schema()
        for name in (*section.split("."), "width"):
            node = node["properties"][name]
        assert node == {"description": "Channels.", "default": 32, "type": "integer", "minimum": 8}
        (tmp_path / "experiment.yaml").write_text(dump(spec))
        assert to_dict(load_spec([tmp_path / "experiment.yaml"]).spec) == to_dict(spec)

    def test_mistakes_are_located_and_guessed(self, section: str) -> None:
        assert problems(
            f"{section}.width=4", f"{section}.widht=9", f"{section}.extra.a=b", f"{section}.colour=gren"
        ) == (
            f"{section}.width=4: {section}.width: found 4, expected a whole number >= 8",
            f"{section}.widht=9: {section}.widht: unknown field; did you mean {section}.width?",
            f'{section}.extra.a=b: {section}.extra.a: found "b", expected a whole number',
            f'{section}.colour=gren: {section}.colour: found "gren", expected one of red, green; did you mean green?',
        )


@pytest.mark.usefixtures("fern")
@pytest.mark.parametrize("path", LISTS)
class TestEntries:
    def test_they_are_read_and_written(self, path: str, tmp_path: Path) -> None:
        spec = load_spec([], [f"{path}=[fern, {{type: fern, width: 64.0}}]"]).spec
        (tmp_path / "experiment.yaml").write_text(dump(spec))
        again = load_spec([tmp_path / "experiment.yaml"]).spec
        assert again == spec
        name = path.rpartition(".")[2]
        holder = again.dataset.augmentation if path.startswith("dataset") else again.train
        assert getattr(holder, name) == (Entry("fern"), Entry("fern", {"width": 64}))

    def test_mistakes_are_located_in_the_file(self, path: str, tmp_path: Path) -> None:
        *parents, name = path.split(".")
        lines = [f"{'  ' * depth}{key}:" for depth, key in enumerate((*parents, name))]
        file = tmp_path / "spec.yaml"
        file.write_text(
            "\n".join([*lines, "    - {type: fern, width: 4}", "    - {type: fern,", "       widht: 9}"])
            + "\n    - frn\n    - {width: 3}\n    - 7\n    - {type: fern, way: dwn}\n"
        )
        with pytest.raises(SpecError) as caught:
            load_spec([file])
        start = len(lines)
        found = [problem.partition(": ") for problem in caught.value.problems]
        assert [(int(place.split(":")[1]) - start, text) for place, _, text in found] == [
            (1, f"{path}[0].width: found 4, expected a whole number >= 8"),
            (3, f"{path}[1].widht: unknown field; did you mean {path}[1].width?"),
            (4, found[2][2]),
            (5, f'{path}[3]: found {{"width": 3}}, expected a name, or {{type: NAME, option: value, ...}}'),
            (6, f"{path}[4]: found 7, expected a name, or {{type: NAME, option: value, ...}}"),
            (7, f'{path}[5].way: found "dwn", expected one of up, down; did you mean down?'),
        ]
        assert f"{path}[2]: no " in found[2][2]
        assert "'frn' is installed; available: " in found[2][2]
        assert found[2][2].endswith("did you mean fern?")


@pytest.mark.usefixtures("fern")
class TestMaking:
    def test_a_registered_name_gets_what_is_given_and_all_its_options(self) -> None:
        (spec, folder), options = make("callback", Entry("fern", {"width": 64, "colour": "green"}), spec=1, folder=2)
        assert (spec, folder) == (1, 2)
        assert (options["width"], options["scale"], options["colour"].name) == (64, None, "GREEN")
        assert make("loss", Entry("bare")) == ((), {})

    def test_an_option_named_like_a_key_of_every_entry_is_refused(self, install) -> None:
        text = """
        @dataclass(frozen=True)
        class Heavy:
            weight: float = 1.0

        @hookimpl
        def oneformer_losses(): return [Loss("heavy", "heavy_module:Heavy", "heavy_module:Heavy")]
        """
        install(heavy=text)
        (problem,) = problems("train.losses=[heavy]")
        assert problem.endswith("the option weight is one that every entry of a loss has already")

    def test_a_class_path_gets_what_its_signature_names(self) -> None:
        made = make("callback", Entry("fern_module:plain", {"speed": 3}), spec="the spec", folder=2)
        assert made == ("the spec", 3, False)

    def test_the_weight_of_a_loss_is_not_handed_to_it(self) -> None:
        written = "train.losses=[bare, {type: bare, weight: 2}, {type: fern, weight: 0.5, width: 64}]"
        bare, heavy, fern = load_spec([], [written]).spec.train.losses
        assert [shared_options("loss", entry).weight for entry in (bare, heavy, fern)] == [1.0, 2.0, 0.5]
        assert make("loss", heavy) == ((), {})
        _, options = make("loss", fern)
        assert options["width"] == 64
        assert "weight" not in options
        argument = "train.losses=[{type: bare, weight: -1}]"
        assert problems(argument) == (f"{argument}: train.losses[0].weight: found -1, expected a number >= 0",)

    def test_what_it_raises_is_one_line_with_the_plugin(self) -> None:
        with pytest.raises(PluginError, match=r"^loss 'fern' of fern 1\.2 failed: RuntimeError: too wide$"):
            make("loss", Entry("fern", {"width": 99}))

    def test_a_command_gets_its_section_as_keywords(self) -> None:
        command = registry().command("fern")
        run_task(command, (), ("fern.width=64",))
        with pytest.raises(PluginError, match=r"^command 'fern' of fern 1\.2 failed: RuntimeError: too wide$"):
            run_task(command, (), ("fern.width=99",))

    def test_a_name_that_is_not_installed_lists_those_that_are(self) -> None:
        with pytest.raises(SpecError, match="the loss 'frn' is not installed; available: bare, fern"):
            make("loss", Entry("frn"))


@pytest.mark.usefixtures("fern")
class TestNames:
    def test_keywords_of_a_class_path_are_compared_with_its_signature(self) -> None:
        argument = "train.callbacks=[{type: 'fern_module:plain', sped: 3}]"
        assert problems(argument) == (
            f"{argument}: train.callbacks[0].sped: unknown keyword; did you mean speed?",
            f"{argument}: train.callbacks[0]: fern_module:plain needs speed",
        )

    def test_a_class_path_that_cannot_be_imported_here_is_taken_as_it_is(self) -> None:
        spec = load_spec([], ["train.losses=[{type: 'not_here.mod:Loss', a: 1}]"]).spec
        assert spec.train.losses == (Entry("not_here.mod:Loss", {"a": 1}),)

    def test_an_option_of_a_part_without_options_is_unknown(self) -> None:
        argument = "train.losses=[{type: bare, a: 1}]"
        assert problems(argument) == (f"{argument}: train.losses[0].a: unknown field; the loss 'bare' has no options",)

    @pytest.mark.parametrize("argument", ["train.losses=[gone]", "model.backbone.type=gone", "dataset.train.type=gone"])
    def test_a_name_that_is_missing_is_a_note_to_tasks_that_do_not_read_it(self, argument: str, tmp_path: Path) -> None:
        graph = tmp_path / "model.onnx"
        graph.touch()
        loaded = load_spec([], [argument, f"gen_trt_engine.onnx_file={graph}"], task="gen_trt_engine")
        assert any("'gone' is installed; gen_trt_engine does not use it" in note for note in loaded.notes)
        assert any(argument in problem for problem in problems(argument))

    def test_a_section_of_a_plugin_that_is_missing_is_a_note(self) -> None:
        loaded = load_spec([], ["model.backbone.convpyramid.width=4", "runtimes.paper.size=a4"])
        assert loaded.notes == (
            "model.backbone.convpyramid has no effect: no backbone 'convpyramid' is installed",
            "runtimes.paper has no effect: no runtime 'paper' is installed",
        )

    def test_a_misspelt_section_is_an_error_all_the_same(self) -> None:
        argument = "model.backbone.swim.embed_dim=8"
        assert problems(argument) == (
            f"{argument}: model.backbone.swim: unknown field; did you mean model.backbone.swin?",
        )

    def test_quantize_backend_takes_the_names_of_plugins(self) -> None:
        assert load_spec([], ["quantize.backend=Fern"]).spec.quantize.backend == "fern"
        assert "expected one of fern, onnxruntime, torchao" in problems("quantize.backend=other")[0]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("no_such_module:Options", "cannot be loaded"),
        ("moss_module:NoDefault", "the option width has no default"),
        ("moss_module:StrangeType", "the option width: a spec cannot hold complex; it can hold bool, int, "),
        ("moss_module:WrongDefault", "the option width: the default 'wide' does not fit its type"),
        ("json:dumps", "is not a dataclass"),
    ],
)
def test_options_that_cannot_be_held_harm_those_who_name_them_alone(install, options: str, reason: str) -> None:
    hook = f"""
@hookimpl
def oneformer_backbones(): return [Backbone("moss", HERE + ":give", "{options}")]
@hookimpl
def oneformer_losses(): return [Loss("moss", HERE + ":give", "{options}")]
"""
    install(moss=PLUGIN.replace("fern_module", "moss_module") + hook)
    assert load_spec([]).notes == ()
    for argument in ("model.backbone.type=moss", "model.backbone.moss.width=3", "train.losses=[moss]"):
        (problem,) = problems(argument)
        assert "'moss' of moss 1.2" in problem
        assert reason in problem
    with pytest.raises(PluginError, match=r"^loss 'moss' of moss 1\.2 cannot be used: "):
        make("loss", Entry("moss"))


@pytest.mark.usefixtures("fern")
class TestTraces:
    """What a run leaves behind names the plugins that it used, and no others."""

    def test_a_resolved_spec_has_no_section_of_what_the_run_did_not_use(self) -> None:
        text = dump(load_spec([]).spec, "train")
        assert "fern" not in text
        assert "dinat" not in text
        assert "swin:" in text

    def test_it_has_what_the_user_wrote_and_nothing_more_of_it(self) -> None:
        text = dump(load_spec([], ["model.backbone.fern.width=64", "fern.width=48"]).spec, "train")
        assert "width: 64" in text
        assert "colour" not in text
        assert "width: 48" not in text  # of a command that did not run, which other hosts need not have

    def test_it_has_all_of_what_was_used(self) -> None:
        used = dump(load_spec([], ["model.backbone.type=fern"]).spec, "train")
        assert "colour: red" in used
        assert "swin:" not in used
        assert "colour: red" in dump(load_spec([]).spec, "fern")

    def test_a_model_file_names_the_plugins_that_trained_it(self) -> None:
        spec = load_spec([], ["model.backbone.type=fern", "train.losses=[bare]"]).spec
        labels = Labels((Label(1, "cell", True, (1, 2, 3)),))
        manifest = Manifest.from_dict(Manifest.from_spec(spec, labels, {}).to_dict(), "model.pth")
        assert manifest.plugins == {"backbone fern": "fern==1.2", "loss bare": "fern==1.2"}
        assert "swin" not in manifest.model["backbone"]
        assert manifest.cure("backbone", "fern") == "; install it with: python -m pip install 'fern==1.2'"
        assert Manifest.from_spec(load_spec([]).spec, labels, {}).plugins == {}
