"""Checkpoints with weights in 8 bits."""

from __future__ import annotations

import json

import pytest
import torch

from oneformer_model.commands.quantize import run
from oneformer_model.weights import checkpoint, int8, sources
from oneformer_spec.errors import CheckpointError, SpecError, UsageError
from oneformer_spec.loading.load import load_spec

STATE = {"layer.weight": torch.tensor([[1.0, -0.5], [0.02, 0.01]]), "layer.bias": torch.tensor([1.0, 2.0])}
SMALL = {"layer.weight": (torch.tensor([[127, -64], [127, 64]], dtype=torch.int8), torch.tensor([1 / 127, 0.02 / 127]))}


def test_int8_weights_come_back_as_floats():
    stored = int8.stored(STATE, SMALL)
    assert stored["layer.weight"].dtype == torch.int8
    back = int8.restored(stored, "file")
    assert back.keys() == STATE.keys()
    torch.testing.assert_close(back["layer.weight"], STATE["layer.weight"], atol=0.004, rtol=0.01)
    assert back["layer.bias"] is STATE["layer.bias"]


def test_weights_without_8_bits_are_left_alone():
    assert int8.restored(STATE, "file") == STATE


@pytest.mark.parametrize("broken", [{"layer.weight": None}, {"layer.weight.int8_scale": torch.ones(3)}])
def test_scales_that_fit_no_weights_are_told(broken):
    state = {name: value for name, value in {**int8.stored(STATE, SMALL), **broken}.items() if value is not None}
    with pytest.raises(CheckpointError, match=r"file: its tensors do not fit: layer\.weight\.int8_scale"):
        int8.restored(state, "file")


@pytest.fixture
def saved(tmp_path, model, manifest):
    """A checkpoint of the tiny network."""
    path = tmp_path / "saved.pth"
    checkpoint.save(path, state_dict=model.state_dict(), manifest=manifest)
    return path


@pytest.fixture
def quantize(saved, tmp_path):
    def start(*words):
        base = ["quantize.backend=torchao", "quantize.device=cpu", f"quantize.model_path={saved}"]
        run(load_spec([], [*base, f"results_dir={tmp_path}", *words]).spec, list)
        folder = tmp_path / "quantize"
        return folder / "model_int8.pth", json.loads((folder / "quantize.json").read_text())

    return start


def test_a_quantized_checkpoint_computes_nearly_the_same(quantize, saved):
    pytest.importorskip("torchao")
    path, report = quantize()
    raw = torch.load(path, weights_only=True)
    small = [name for name, value in raw["state_dict"].items() if value.dtype == torch.int8]
    assert sorted(small) == sorted(f"{name}.weight" for name in report["quantized"])
    assert not any(name.startswith("task_encoder") for name in small), "token ids multiply rounding errors"
    assert raw["quantized"]["backend"] == "torchao"
    assert sources.read(path).manifest == sources.read(saved).manifest
    image, tokens = torch.randn(1, 3, 64, 64), torch.zeros(1, 77)
    with torch.inference_mode():
        was, now = (sources.load(file)(image, tokens) for file in (saved, path))
    assert 0 < (was.class_logits - now.class_logits).abs().mean() < 0.05 * was.class_logits.abs().mean()
    assert report["change_of_logits"]["class_logits"] < 0.05


def test_a_quantized_checkpoint_is_not_quantized_again(quantize):
    pytest.importorskip("torchao")
    path, _ = quantize("quantize.skip_names=['*linear1']")
    assert "quantized" in checkpoint.read(path)
    with pytest.raises(CheckpointError, match="is already quantized"):
        quantize(f"quantize.model_path={path}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("quantize.mode=static_ptq", "torchao keeps activations as they are: set weight_only_ptq"),
        ("quantize.algorithm=entropy", "found entropy, expected one of minmax, max, rtn_dq with torchao"),
        ("quantize.backend_kwargs={group: 3}", "found group, expected none with torchao"),
        ("quantize.device=trt", "trt is for .onnx files"),
    ],
)
def test_what_torchao_does_not_do_is_told(quantize, tmp_path, words, message):
    with pytest.raises(SpecError) as caught:
        quantize(words)
    assert message in str(caught.value)
    assert not (tmp_path / "quantize").exists()


def test_without_torchao_the_pip_command_is_named(quantize, monkeypatch):
    monkeypatch.setattr("oneformer_model.commands.quantize.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"python -m pip install 'oneformer-model\[quantize\]'"):
        quantize()
