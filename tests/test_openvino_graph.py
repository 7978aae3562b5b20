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

from oneformer_deploy.runtimes import openvino_runtime as runtime
from oneformer_deploy.runtimes import openvino_weighted_sums
from oneformer_deploy.runtimes.openvino_weighted_sums import use_embedding_bags
from oneformer_model.network import deformable_attention

SIZE = (64, 96)
LAYERS = 2
NETWORK = (
    *(word for word in SETTINGS if word.startswith("model.")),
    f"model.sem_seg_head.transformer_enc_layers={LAYERS}",
    "model.one_former.class_dec_layers=2",
    f"export.input_height={SIZE[0]}",
    f"export.input_width={SIZE[1]}",
)
needs_bf16 = pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this CPU does not support bf16",
)
Arrays = dict[str, np.ndarray]


def spread_points(attention: deformable_attention.DeformableAttention) -> None:
    """Let points be anywhere and count differently: fresh ones lie on rings and count alike."""
    for linear in (attention.sampling_offsets, attention.attention_weights):
        torch.nn.init.normal_(linear.weight, std=0.5)


def export(folder: Path, *words: str) -> Path:
    initialise = deformable_attention.DeformableAttention._initialise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            deformable_attention.DeformableAttention,
            "_initialise",
            lambda self: (initialise(self), spread_points(self)),
        )
        return exported(folder, 3, *NETWORK, *words)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("graph"))


def inputs(batch: int) -> Arrays:
    random = np.random.default_rng(0)
    image = random.normal(size=(batch, 3, *SIZE)).astype(np.float32)
    return {"image": image, "task_tokens": random.integers(1, 400, (batch, 77)).astype(np.float32)}


def read(graph: Path, values: Arrays) -> openvino.Model:
    model = openvino.Core().read_model(graph)
    model.reshape({name: value.shape for name, value in values.items()})
    return model


def run(model: openvino.Model, values: Arrays, precision: str = "f32") -> list[np.ndarray]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return list(compiled(values).to_tuple())


def gives_the_same_as_bags(graph: Path, batch: int) -> None:
    values = inputs(batch)
    model = read(graph, values)
    assert use_embedding_bags(model) == LAYERS
    expected = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, values)
    for one, other in zip(run(model, values), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("batch", [1, 3])
def test_deformable_attention_becomes_bags(graph: Path, batch: int) -> None:
    gives_the_same_as_bags(graph, batch)


@pytest.mark.parametrize("words", [("opset_version=16", "batch_size=2"), ("opset_version=18", "batch_size=2")])
def test_every_exporters_attention_becomes_bags(tmp_path: Path, words: tuple[str, ...]) -> None:
    gives_the_same_as_bags(export(tmp_path, *(f"export.{word}" for word in words)), 2)


@needs_bf16
def test_bf16_does_not_misplace_the_rows(graph: Path) -> None:
    values = inputs(1)
    plain, bags = read(graph, values), read(graph, values)
    use_embedding_bags(bags)
    exact = run(plain, values)

    def distance(model: openvino.Model) -> float:
        return sum(np.abs(one - other).mean() for one, other in zip(run(model, values, "bf16"), exact, strict=True))

    assert distance(bags) <= 1.5 * distance(plain)


def test_attention_of_open_sizes_stays(graph: Path) -> None:
    assert use_embedding_bags(openvino.Core().read_model(graph)) == 0


@needs_bf16
def test_int8_layers_and_the_rest_in_bf16_keep_the_batch(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO alone loses it, or fails, where the batch of this graph is open."""
    pictures, found = tmp_path / "pictures", []
    pictures.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (3, *SIZE, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    words = (f"results_dir={tmp_path}", f"quantize.model_path={graph}", "quantize.mode=static_ptq")
    calibration = f"dataset.quant_calibration_dataset.images_dir={pictures}"
    Case((*words, calibration, "quantize.max_metric_drop=1.0"), tmp_path).start("quantize")
    monkeypatch.setattr(
        openvino_weighted_sums, "use_embedding_bags", lambda model: found.append(use_embedding_bags(model))
    )
    segmenter = runtime.open(tmp_path / "quantize" / "model_int8.onnx", precision="bf16")
    assert found == [LAYERS]
    for batch in (1, 3):
        classes, masks = segmenter.run(*inputs(batch).values())
        assert (len(classes), len(masks)) == (batch, batch)
        assert np.isfinite(classes).all() and np.ptp(masks) > 0
