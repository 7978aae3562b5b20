"""The third-party package of examples/backbone-plugin, installed beside ours: checked, trained, exported, explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugin_site import install, oneformer, python, shown

PLUGIN = "examples/backbone-plugin"
PACKAGE = "oneformer_convpyramid"
SECTION = "model.backbone.convpyramid"
TINY = (
    "model.backbone.type=convpyramid",
    f"{SECTION}.width=8",
    "model.sem_seg_head.convs_dim=32",
    "model.sem_seg_head.mask_dim=32",
    "model.sem_seg_head.transformer_enc_layers=1",
    "model.one_former.hidden_dim=32",
    "model.one_former.dec_layers=3",
    "model.one_former.train_num_points=256",
    "model.text_encoder.width=16",
    "dataset.augmentation.train_crop_size=[128,128]",
    "dataset.train.num_workers=0",
    "dataset.val.annotations=",
    "train.num_epochs=1",
    "train.iters_per_epoch=1",
    "export.input_width=96",
    "export.input_height=64",
)
CHECK = """
from oneformer_model.testing import check_backbone
from oneformer_spec.plugins.registry import registry

check_backbone(registry().backbones["convpyramid"], width=8)
"""


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed."""
    return install(repository / PLUGIN, tmp_path_factory.mktemp("site"))


def test_it_keeps_the_contract_of_backbones(site: Path) -> None:
    done = python(site, "-c", CHECK)
    assert done.returncode == 0, done.stderr


def test_it_is_listed_with_its_distribution(site: Path) -> None:
    assert "oneformer-convpyramid" in oneformer(site, "plugins").stdout


def test_it_trains_a_step_and_becomes_onnx(site: Path, repository: Path, tmp_path: Path) -> None:
    import onnx

    words = ("-e", "examples/nuclei/demo.yaml", *TINY, f"results_dir={tmp_path}")
    trained = oneformer(site, "train", *words, folder=repository)
    assert trained.returncode == 0, trained.stderr
    checkpoint = tmp_path / "train" / "oneformer_model_latest.pth"
    exported = oneformer(site, "export", *words, f"export.checkpoint={checkpoint}", folder=repository)
    assert exported.returncode == 0, exported.stderr
    graph = onnx.load(tmp_path / "export" / "model.onnx")
    assert any("convpyramid" in entry.value for entry in graph.metadata_props)


def test_its_options_are_in_the_schema(site: Path) -> None:
    schema = json.loads(oneformer(site, "get-schema").stdout)
    backbone = schema["properties"]["model"]["properties"]["backbone"]["properties"]
    width = backbone["convpyramid"]["properties"]["width"]
    assert (width["type"], width["default"], width["minimum"]) == ("integer", 32, 8)
    assert "convpyramid" in backbone["type"]["anyOf"][0]["enum"]


def test_a_wrong_option_is_told_with_its_place(site: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("model:\n  backbone:\n    convpyramid:\n      width: 4\n      widht: 16\n")
    done = oneformer(site, "validate", "-e", str(spec))
    assert done.returncode == 2
    assert f"{spec}:4:14: {SECTION}.width: found 4, expected a whole number >= 8" in done.stderr
    assert f"{spec}:5:7: {SECTION}.widht: unknown field; did you mean {SECTION}.width?" in done.stderr


@pytest.mark.parametrize("name", ["pyproject.toml", f"{PACKAGE}/plugin.py", f"{PACKAGE}/backbone.py"])
def test_the_documentation_shows_the_files_as_they_are(repository: Path, name: str) -> None:
    assert (repository / PLUGIN / name).read_text() in shown(repository / "docs" / "plugins.md")
