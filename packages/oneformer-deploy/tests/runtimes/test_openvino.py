"""OpenVINO finds what onnxruntime finds, and says as clearly what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import INSTANCE_TOKEN, RED, manifest, write_model

from oneformer_deploy.runtimes import onnxruntime_runtime
from oneformer_deploy.runtimes import openvino_runtime as runtime
from oneformer_spec.errors import CheckpointError, UsageError
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.tasks import TASKS, Task

openvino = pytest.importorskip("openvino")
HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def names(segmentation) -> set[str]:
    return {segment.name for segment in segmentation.segments}


@pytest.mark.parametrize("task", TASKS)
def test_finds_what_onnxruntime_finds_at_any_batch_and_size(model, scene, task):
    pictures = [scene, scene[:, ::-1].copy(), scene.repeat(2, axis=0), scene[:40, :40].copy()]
    found = runtime.open(model, num_threads=1).predict(pictures, task)
    expected = onnxruntime_runtime.open(model, "cpu").predict(pictures, task)
    for one, other in zip(found, expected, strict=True):
        assert one.segments == other.segments
        np.testing.assert_array_equal(one.map, other.map)


def test_results_survive_the_next_run(model, scene):
    segmenter = runtime.open(model)
    tokens = np.asarray([segmenter.manifest.task_tokens[Task.PANOPTIC]], dtype=np.float32)
    image = np.zeros((1, 3, 64, 96), dtype=np.float32)
    kept = segmenter.run(image, tokens)
    first = [logits.copy() for logits in kept]
    segmenter.run(image + 1, tokens)
    for before, now in zip(first, kept, strict=True):
        np.testing.assert_array_equal(before, now)


def test_a_fixed_batch_and_size_of_the_graph_win(tmp_path, scene):
    segmenter = runtime.open(write_model(tmp_path / "m.onnx", image=(2, 3, 96, 128)))
    assert segmenter.fixed_batch == 2
    assert segmenter.manifest.fixed_size == (96, 128)
    found = segmenter.predict([scene] * 3, Task.PANOPTIC)
    assert [names(one) for one in found] == [{"red", "green", "dark"}] * 3


def test_a_fixed_size_takes_any_batch(tmp_path, scene):
    path = write_model(tmp_path / "m.onnx", image=("batch", 3, 96, 128))
    segmenter, expected = runtime.open(path), onnxruntime_runtime.open(path, "cpu")
    assert segmenter.fixed_batch is None and segmenter.manifest.fixed_size == (96, 128)
    for batch in (1, 3):
        pictures = [scene, scene[:, ::-1].copy(), scene[::-1].copy()][:batch]
        for one, other in zip(
            segmenter.predict(pictures, Task.PANOPTIC), expected.predict(pictures, Task.PANOPTIC), strict=True
        ):
            np.testing.assert_array_equal(one.map, other.map)


def test_accepts_the_names_of_the_reference(tmp_path, scene):
    renamed = {"image": "images", "class_logits": "pred_logits", "mask_logits": "pred_masks"}
    segmenter = runtime.open(write_model(tmp_path / "m.onnx", names=renamed))
    assert names(segmenter.predict([scene], Task.PANOPTIC)[0]) == {"red", "green", "dark"}


def close_words() -> Manifest:
    """A manifest whose panoptic token is the number after the instance token: bf16 knows no difference between them."""
    usual = manifest()
    row = list(usual.task_tokens[Task.INSTANCE])
    row[4] = INSTANCE_TOKEN + 1
    return replace(usual, task_tokens={**usual.task_tokens, Task.PANOPTIC: row})


@pytest.mark.skipif(not HAS_BF16, reason="this CPU does not support bf16")
def test_bf16_rounds_no_token_of_a_task(tmp_path, scene):
    segmenter = runtime.open(write_model(tmp_path / "m.onnx", description=close_words()), precision="bf16")
    (found,) = segmenter.predict([scene], Task.PANOPTIC)
    assert names(found) == {"red", "green", "dark"}
    assert names(segmenter.predict([scene], Task.INSTANCE)[0]) == {"red"}
    by_name = {segment.name: segment for segment in found.segments}
    assert (found.map[RED] == by_name["red"].id).mean() > 0.9


def test_bf16_without_the_instructions_is_reported(model, monkeypatch):
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino, "Core", Core)
    with pytest.raises(UsageError) as error:
        runtime.open(model, precision="bf16")
    assert str(error.value) == f"{model}: this CPU does not support bf16; set precision to fp32"


def one_line(path: Path, *arguments: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        runtime.open(path, *arguments)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_foreign_file_is_reported(model, pictures, tmp_path):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[: model.stat().st_size // 3])
    assert "is truncated" in one_line(cut)
    assert one_line(tmp_path / "none.onnx").endswith("does not exist")
    assert "not an ONNX file" in one_line(pictures / "a.png")
    assert "has no oneformer manifest" in one_line(write_model(tmp_path / "m.onnx", metadata={}))


def test_a_graph_that_openvino_refuses_is_reported(model, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model.read_bytes().replace(b"AveragePool", b"AveragePoof"))
    assert "openvino cannot" in one_line(path)


@pytest.mark.parametrize("device", ["cuda:0", "npu", "cpu:1"])
def test_another_device_is_reported(model, device):
    assert f"no device {device!r} for the runtime openvino; available: auto and cpu" in one_line(model, device)


def test_a_failure_while_running_is_one_line(model):
    with pytest.raises(CheckpointError, match=r"tiny\.onnx: openvino failed at input \(1, 4, 64, 64\)"):
        runtime.open(model).run(np.zeros((1, 4, 64, 64), np.float32), np.zeros((1, 77), np.float32))


def test_a_missing_package_names_the_pip_command(model, monkeypatch):
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as error:
        runtime.open(model)
    assert str(error.value) == (
        "the runtime openvino needs openvino; install it with: python -m pip install 'oneformer-deploy[openvino]'"
    )
