"""Pictures and models for the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from tiny_onnx import make_scene, write_model


@pytest.fixture
def scene() -> np.ndarray:
    """64 x 96 pixels: a red and a green square on black, their edges at multiples of 4."""
    return make_scene()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with dynamic batch and size."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def pictures(tmp_path: Path, scene: np.ndarray) -> Path:
    """Three images of two formats and sizes, one below, one with a suffix in capitals."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    Image.fromarray(scene).save(folder / "a.png")
    Image.fromarray(scene[:, ::-1].copy()).save(folder / "below" / "a.png")
    Image.fromarray(scene.repeat(2, axis=0).repeat(2, axis=1)).save(folder / "B.JPG", quality=95)
    return folder
