"""TensorRT-RTX takes every layer of a OneFormer: a small one here, Swin-T in tests/engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from acts.settings import SETTINGS
from engine_files import FORMATS, built, exported

NETWORK = tuple(word for word in SETTINGS if word.startswith(("model.", "export.input_")))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("small"), 3, *NETWORK)


def test_it_builds_in_every_format(graph: Path, tmp_path: Path) -> None:
    engines = {name: built(graph, tmp_path, *words) for name, words in FORMATS.items()}
    assert {name: engine.facts.batch for name, engine in engines.items()} == {
        "fp32": (1, 1, 1),
        "fp16": (1, 1, 1),
        "open batch": (1, 2, 4),
    }
    assert engines["fp16"].facts.library == "tensorrt_rtx" and engines["fp16"].facts.gpu is None
    assert engines["fp16"].engine != engines["fp32"].engine
    assert len(engines["fp16"].manifest.labels) == 3
