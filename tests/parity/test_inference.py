"""Our model computes what Hugging Face's does, from the folder that Hugging Face wrote, and writes it back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="the reference of the parity tests: `nox -s parity` installs it")

from safetensors.torch import save_file

import oneformer_model
from oneformer_model import OneFormer, task_tokens
from oneformer_model.weights.conversion import convert
from oneformer_spec.tasks import TASKS, Task

SIZES = [(512, 512), (480, 640), (389, 517)]
NEAR, FAR, PART = 1e-4, 5e-3, 0.95  # of the largest logit; an attention bit that flips moves a few queries


def reference(model: Any, image: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        outputs = model(pixel_values=image, task_inputs=tokens)
    return outputs.class_queries_logits, outputs.masks_queries_logits


def assert_near(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """Nearly all queries agree in all their logits, and none is far off."""
    errors = []
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        errors.append((ours - theirs).abs().flatten(2).amax(2) / theirs.abs().max())  # (B, Q)
    worst = torch.maximum(*errors)
    assert worst.max() <= FAR
    assert (worst <= NEAR).float().mean() >= PART


@pytest.fixture(scope="session")
def ours(saved: tuple[Any, Path]) -> OneFormer:
    return oneformer_model.load(saved[1])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_logits_are_equal(saved: tuple[Any, Path], ours: OneFormer, size: tuple[int, int], task: Task) -> None:
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    tokens = task_tokens(task, 2)
    with torch.inference_mode():
        found = ours(image, tokens)[:2]
    assert_near(found, reference(saved[0], image, tokens))


def test_the_names_in_memory_are_read_as_well(saved: tuple[Any, Path], ours: OneFormer, tmp_path: Path) -> None:
    model, folder = saved
    shutil.copy(folder / "config.json", tmp_path)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again = oneformer_model.load(tmp_path).state_dict()
    assert [name for name, value in ours.state_dict().items() if not torch.equal(value, again[name])] == []


@pytest.mark.parametrize("stop", ["none", ".pth", ".pkl"])
def test_what_is_written_back_loads_strictly_and_computes_the_same(
    saved: tuple[Any, Path], tmp_path: Path, stop: str
) -> None:
    from transformers import OneFormerForUniversalSegmentation

    model, source = saved
    if stop != "none":  # by way of our own form, and of the original's
        convert(source, tmp_path / f"stop{stop}")
        source = tmp_path / f"stop{stop}"
    convert(source, tmp_path / "folder")
    written, report = OneFormerForUniversalSegmentation.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert {kind: list(names) for kind, names in report.items() if names} == {}
    image, tokens = torch.randn(1, 3, 96, 128), task_tokens(Task.PANOPTIC)
    found, expected = reference(written.eval(), image, tokens), reference(model, image, tokens)
    assert_near(found, expected)  # the same weights elsewhere in memory: sums may round differently


def test_the_text_branch_is_written_back(hugging_face: Callable[..., Any], tmp_path: Path) -> None:
    from transformers import OneFormerForUniversalSegmentation

    model = hugging_face(training=True, num_queries=20, text_encoder_n_ctx=4, text_encoder_num_layers=1)
    model.save_pretrained(tmp_path / "saved")
    convert(tmp_path / "saved", tmp_path / "folder")
    written, report = OneFormerForUniversalSegmentation.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert {kind: list(names) for kind, names in report.items() if names} == {}
    assert written.config.is_training
    # Nothing depends on the norm behind the backbone's last stage, which is not kept; the temperature is a float64.
    state = {name: value.float() for name, value in model.state_dict().items() if "swin.layernorm" not in name}
    assert [name for name, value in state.items() if not torch.equal(value, written.state_dict()[name].float())] == []
