"""OpenVINO runs a whole OneFormer in a form of its own, with onnxruntime's results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from acts.row import Case
from acts.settings import SETTINGS
from engine_files import exported
from PIL import Image

from oneformer_deploy import openvino as runtime
from oneformer_deploy.openvino_bags import sample_by_bags
from oneformer_model import deformable

NETWORK = tuple(word for word in SETTINGS if word.startswith("model."))
SIZE = (64, 96)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Points are anywhere and weights unequal: fresh ones sit on rings, and count alike."""
    initialise = deformable.DeformableAttention._initialise

    def spread(attention: deformable.DeformableAttention) -> None:
        initialise(attention)
        for linear in (attention.sampling_offsets, attention.attention_weights):
            torch.nn.init.normal_(linear.weight, std=0.5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deformable.DeformableAttention, "_initialise", spread)
        size = (f"export.input_height={SIZE[0]}", f"export.input_width={SIZE[1]}")
        return exported(tmp_path_factory.mktemp("graph"), 3, *NETWORK, "model.one_former.class_dec_layers=2", *size)


def inputs(batch: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    image = random.normal(size=(batch, 3, *SIZE)).astype(np.float32)
    return {"image": image, "task_tokens": random.integers(1, 400, (batch, 77)).astype(np.float32)}


@pytest.mark.parametrize("batch", [1, 3])
def test_deformable_attention_becomes_bags(graph: Path, batch: int) -> None:
    core, values = openvino.Core(), inputs(batch)
    model = core.read_model(graph)
    model.reshape({name: value.shape for name, value in values.items()})
    assert sample_by_bags(model) == 1
    found = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(values)
    expected = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, values)
    for one, other in zip(found.to_tuple(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def test_attention_of_open_sizes_stays(graph: Path) -> None:
    assert sample_by_bags(openvino.Core().read_model(graph)) == 0


def test_int8_layers_and_the_rest_in_bf16_keep_the_batch(graph: Path, tmp_path: Path) -> None:
    """OpenVINO alone loses it, or fails, where the batch of this graph is open."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not multiply bf16")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (3, *SIZE, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    words = (f"results_dir={tmp_path}", f"quantize.model_path={graph}", "quantize.mode=static_ptq")
    calibration = f"dataset.quant_calibration_dataset.images_dir={pictures}"
    Case((*words, calibration, "quantize.max_metric_drop=1.0"), tmp_path).start("quantize")
    segmenter = runtime.open(tmp_path / "quantize" / "model_int8.onnx", precision="bf16")
    for batch in (1, 3):
        classes, masks = segmenter.run(*inputs(batch).values())
        assert (len(classes), len(masks)) == (batch, batch)
        assert np.isfinite(classes).all() and np.ptp(masks) > 0
