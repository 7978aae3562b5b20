"""A plugin's backbone has a section like a built-in one; a broken plugin costs a note and nothing else."""

import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from oneformer_spec.documents.resolved import dump
from oneformer_spec.documents.template import field_table, render_spec
from oneformer_spec.errors import SpecError
from oneformer_spec.hooks import Backbone, Quantizer
from oneformer_spec.loading import validation
from oneformer_spec.loading.json_schema import json_schema, validation_schema
from oneformer_spec.loading.load import load_spec
from oneformer_spec.plugins import backbone_sections, registry
from oneformer_spec.schema import option, tree

CACHES = (backbone_sections.backbone_sections, tree.spec_tree, tree.leaves, validation_schema, validation._validator)


@dataclass(frozen=True)
class TinyOptions:
    """A tiny backbone."""

    width: int = option(32, minimum=8, help="Channels of the first stage.", common=True)
    kinds: list[str] = field(default_factory=lambda: ["a"])
    scale: float | None = None
    extra: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NoDefault:
    width: int


@dataclass(frozen=True)
class StrangeType:
    width: complex = 0j


@pytest.fixture
def install(monkeypatch):
    """Pretend that plugins declare backbones with these options."""
    module = types.ModuleType("pretended_plugin")
    for kind in (TinyOptions, NoDefault, StrangeType):
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "pretended_plugin", module)

    def pretend(**options):
        declared = {name: Backbone(name, "nowhere:build", target) for name, target in options.items()}
        monkeypatch.setattr(registry, "registry", lambda: registry.Registry(backbones=declared))
        for cache in CACHES:
            cache.cache_clear()

    yield pretend
    for cache in CACHES:
        cache.cache_clear()


def test_its_section_is_read_checked_and_shown(install, tmp_path):
    install(tiny="pretended_plugin:TinyOptions")
    spec = load_spec([], ["model.backbone.type=Tiny", "model.backbone.tiny.width=64"]).spec
    assert spec.model.backbone.options == TinyOptions(width=64)
    assert spec.model.backbone.keywords() == {"width": 64, "kinds": ["a"], "scale": None, "extra": {}}
    assert json_schema()["properties"]["model"]["properties"]["backbone"]["properties"]["tiny"]["properties"][
        "width"
    ] == {
        "description": "Channels of the first stage.",
        "default": 32,
        "type": "integer",
        "minimum": 8,
    }
    assert "width: 32" in render_spec("train", everything=True)
    assert (
        "| `model.backbone.tiny.width` | `32` | a whole number >= 8 | Channels of the first stage. |" in field_table()
    )
    (tmp_path / "experiment.yaml").write_text(dump(spec))
    assert load_spec([tmp_path / "experiment.yaml"]).spec == spec


def test_its_options_are_checked_like_built_in_ones(install):
    install(tiny="pretended_plugin:TinyOptions")
    section = "model.backbone.tiny"
    with pytest.raises(SpecError) as caught:
        load_spec([], [f"{section}.width=4", f"{section}.widht=9", f"{section}.extra.a=b"])
    assert caught.value.problems == (
        f"{section}.width=4: {section}.width: found 4, expected a whole number >= 8",
        f"{section}.widht=9: {section}.widht: unknown field; did you mean {section}.width?",
        f'{section}.extra.a=b: {section}.extra.a: found "b", expected a whole number',
    )


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("broken", "no_such_module:Options", "cannot be loaded"),
        ("broken", "pretended_plugin:NoDefault", "the option width has no default"),
        ("broken", "pretended_plugin:StrangeType", "is no type that a spec can hold"),
        ("broken", "json:dumps", "is no dataclass"),
        ("freeze_at", "pretended_plugin:TinyOptions", "'freeze_at' is a field of model.backbone"),
    ],
)
def test_a_broken_one_is_left_out_with_a_note(install, name, options, reason):
    install(**{name: options})
    loaded = load_spec([])
    assert loaded.spec.model.backbone.type == "swin"
    assert len(loaded.notes) == 1
    assert f"backbone {name!r}" in loaded.notes[0]
    assert reason in loaded.notes[0]


def test_quantize_backend_takes_the_names_of_plugins(monkeypatch):
    declared = {"mine": Quantizer("mine", "nowhere:quantize")}
    monkeypatch.setattr(registry, "registry", lambda: registry.Registry(quantizers=declared))
    for cache in CACHES:
        cache.cache_clear()
    try:
        assert load_spec([], ["quantize.backend=mine"]).spec.quantize.backend == "mine"
        with pytest.raises(SpecError, match="expected one of onnxruntime, torchao, mine"):
            load_spec([], ["quantize.backend=other"])
    finally:
        for cache in CACHES:
            cache.cache_clear()
