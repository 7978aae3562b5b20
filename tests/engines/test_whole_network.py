"""A OneFormer with Swin-T at 512 x 512 builds as an engine in every format; `nox -s engines` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_files import FORMATS, built, exported

CLASSES = 150
NETWORK = ("model.backbone.swin.preset=tiny", "export.input_width=512", "export.input_height=512")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("whole"), CLASSES, *NETWORK)


def test_it_builds_in_every_format(graph: Path, tmp_path: Path) -> None:
    sizes = {}
    for name, words in FORMATS.items():
        engine = built(graph, tmp_path, *words)
        sizes[name] = len(engine.engine)
        assert engine.facts.batch == ((1, 2, 4) if name == "open batch" else (1, 1, 1))
        assert engine.manifest.fixed_size == (512, 512) and len(engine.manifest.labels) == CLASSES
    assert sizes["fp16"] < 0.7 * sizes["fp32"], "weights in 16 bits, constants of norms and positions in 32"
    assert sizes["open batch"] < 0.7 * sizes["fp32"]
