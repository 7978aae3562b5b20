"""The check of runtimes passes one that keeps the contract and names what another breaks."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from oneformer_spec.hooks import Runtime
from oneformer_spec.labels import Label, Labels
from oneformer_spec.segmentation.frame import FitInto
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.testing import check_runtime

LABELS = Labels((Label(1, "cell", True, (1, 2, 3)), Label(2, "ground", False, (4, 5, 6))))
MANIFEST = Manifest(LABELS, {}, (0.0,) * 3, (1.0,) * 3, FitInto(64, 64), 32)


def opened(run):
    return lambda path, device, num_threads, key: Segmenter(run, MANIFEST)


def steady(image, task_tokens):
    """Find the first class on the left and the second on the right of every picture."""
    classes = np.full((len(image), 2, 3), -9.0, dtype=np.float32)
    classes[:, 0, 0] = classes[:, 1, 1] = 9.0
    masks = np.full((len(image), 2, 16, 16), -9.0, dtype=np.float32)
    masks[:, 0, :, :8] = masks[:, 1, :, 8:] = 9.0
    return classes, masks


def crowded(image, task_tokens):
    """Let the number of pictures decide what is found in each."""
    classes, masks = steady(image, task_tokens)
    return classes, masks[:, ::-1] if len(image) > 1 else masks


@pytest.fixture(autouse=True)
def runtimes(monkeypatch):
    known = SimpleNamespace(steady=opened(steady), crowded=opened(crowded), nothing=lambda *args, **kwargs: None)
    monkeypatch.setitem(sys.modules, "pretended_runtimes", known)


def test_a_runtime_that_keeps_the_contract_passes():
    check_runtime(Runtime("mine", "pretended_runtimes:steady", (".mine",)), "model.mine")


@pytest.mark.parametrize(
    ("target", "path", "message"),
    [
        ("steady", "model.onnx", r"declares \.mine, and is checked with model\.onnx"),
        ("nothing", "model.mine", "opens NoneType, expected a Segmenter"),
        ("crowded", "model.mine", r".*another picture changes 100\.0% of its pixels"),
    ],
)
def test_what_breaks_the_contract_is_named(target, path, message):
    with pytest.raises(AssertionError, match=f"^mine: {message}"):
        check_runtime(Runtime("mine", f"pretended_runtimes:{target}", (".mine",)), path)
