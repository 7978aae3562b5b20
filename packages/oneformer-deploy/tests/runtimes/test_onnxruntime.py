from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_onnx import LABELS, RED, manifest, write_model

from oneformer_deploy.runtimes import onnxruntime_runtime
from oneformer_spec.errors import CheckpointError
from oneformer_spec.labels import Labels
from oneformer_spec.tasks import TASKS, Task


def names(segmentation) -> set[str]:
    return {segment.name for segment in segmentation.segments}


@pytest.mark.parametrize("task", TASKS)
def test_finds_what_is_in_the_picture(model, scene, task):
    (found,) = onnxruntime_runtime.open(model, "cpu").predict([scene], task)
    by_name = {segment.name: segment for segment in found.segments}
    red = by_name["red"]
    assert red.bbox == (16, 16, 24, 24)
    expected = np.zeros(scene.shape[:2], dtype=bool)
    expected[RED] = True
    wrong = (found.map == red.id) != expected
    assert wrong.sum() == 4, "interpolation from a quarter of the size rounds the corners, nothing else"
    assert red.area == 24 * 24 - 4


def test_the_task_token_reaches_the_network(model, scene):
    segmenter = onnxruntime_runtime.open(model)
    assert names(segmenter.predict([scene], Task.PANOPTIC)[0]) == {"red", "green", "dark"}
    assert names(segmenter.predict([scene], Task.INSTANCE)[0]) == {"red"}


def test_pictures_of_different_sizes_do_not_change_each_other(model, scene):
    segmenter = onnxruntime_runtime.open(model)
    others = [scene[:, ::-1].copy(), scene.repeat(2, axis=0), scene[:40, :40].copy()]
    together = segmenter.predict([scene, *others], Task.PANOPTIC)
    for picture, result in zip([scene, *others], together, strict=True):
        np.testing.assert_array_equal(result.map, segmenter.predict([picture], Task.PANOPTIC)[0].map)
        assert result.map.shape == picture.shape[:2]


def test_accepts_the_names_of_the_reference(tmp_path, scene):
    renamed = {"image": "images", "class_logits": "pred_logits", "mask_logits": "pred_masks"}
    segmenter = onnxruntime_runtime.open(write_model(tmp_path / "m.onnx", names=renamed))
    assert names(segmenter.predict([scene], Task.PANOPTIC)[0]) == {"red", "green", "dark"}


def test_a_fixed_batch_and_size_of_the_graph_win(tmp_path, scene):
    segmenter = onnxruntime_runtime.open(write_model(tmp_path / "m.onnx", image=(2, 3, 96, 128)))
    assert segmenter.fixed_batch == 2
    assert segmenter.manifest.fixed_size == (96, 128)
    found = segmenter.predict([scene, scene[::-1].copy(), scene], Task.PANOPTIC)
    assert [names(one) for one in found] == [{"red", "green", "dark"}] * 3
    assert found[0].map.shape == scene.shape[:2]
    assert abs(found[0].segments[0].area - 24 * 24) < 60


def test_a_dynamic_graph_wins_over_a_manifest_of_fixed_size(tmp_path):
    path = write_model(tmp_path / "m.onnx", description=replace(manifest(), fixed_size=(64, 64)))
    assert onnxruntime_runtime.open(path).manifest.fixed_size is None


def test_the_number_of_threads_changes_no_result(model, scene):
    one = onnxruntime_runtime.open(model, "cpu", num_threads=1).predict([scene], Task.PANOPTIC)[0]
    two = onnxruntime_runtime.open(model, "cpu", num_threads=2).predict([scene], Task.PANOPTIC)[0]
    np.testing.assert_array_equal(one.map, two.map)


def one_line(path: Path, *arguments: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        onnxruntime_runtime.open(path, *arguments)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_missing_file_is_named(tmp_path):
    assert one_line(tmp_path / "none.onnx").endswith("does not exist")


def test_a_folder_is_not_a_model(tmp_path):
    assert "cannot be read" in one_line(tmp_path)


def test_every_truncated_file_is_reported(model, tmp_path):
    whole, path = model.read_bytes(), tmp_path / "cut.onnx"
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        message = one_line(path)
        assert "truncated" in message or "not an ONNX file" in message or "manifest" in message, (end, message)
    path.write_bytes(whole[: len(whole) // 3])
    assert "is truncated" in one_line(path)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_do_not_crash(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("junk") / "junk.onnx"
    path.write_bytes(content)
    one_line(path)


def test_a_picture_is_not_a_model(pictures):
    assert "not an ONNX file" in one_line(pictures / "a.png")


def test_a_foreign_graph_is_reported(tmp_path):
    message = one_line(write_model(tmp_path / "m.onnx", metadata={}))
    assert "this ONNX file (written by hand) has no oneformer manifest" in message


def test_a_damaged_manifest_is_reported(tmp_path):
    assert "manifest" in one_line(write_model(tmp_path / "m.onnx", metadata={"oneformer_manifest": '{"format": 1}'}))


def test_a_graph_that_onnxruntime_refuses_is_reported(model, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model.read_bytes().replace(b"AveragePool", b"AveragePoof"))
    assert "onnxruntime cannot load it" in one_line(path)


def test_a_manifest_of_other_classes_is_reported(tmp_path):
    labels = Labels(LABELS.items[:2])
    message = one_line(write_model(tmp_path / "m.onnx", description=manifest(labels=labels)))
    assert "class_logits has 4 entries on axis 2, but the manifest has 3 classes, including " in message


def test_a_graph_without_our_outputs_is_reported(tmp_path):
    message = one_line(write_model(tmp_path / "m.onnx", names={"mask_logits": "boxes"}))
    assert "has no mask_logits; it has boxes, class_logits" in message


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "cuda:x", ""])
def test_an_unknown_device_is_reported(model, device):
    assert "available: auto, cpu, cuda and cuda:N" in one_line(model, device)


def test_a_missing_provider_names_its_pip_command(model, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "python -m pip install onnxruntime-gpu" in one_line(model, "cuda:0")


def test_tensorrt_is_asked_for_by_name(model, monkeypatch):
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available[1:])
    with pytest.raises(CheckpointError, match="onnxruntime-tensorrt needs onnxruntime's TensorrtExecutionProvider"):
        onnxruntime_runtime.open_tensorrt(model)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    asked = []

    def session(path, options, providers):
        asked.append(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    onnxruntime_runtime.open_tensorrt(model, "cuda:1")
    place = {"device_id": "1"}
    assert asked == [[(available[0], place), (available[1], place), available[2]]]
    with pytest.raises(CheckpointError, match="no device 'cpu' for TensorRT; available: auto, cuda and cuda:N"):
        onnxruntime_runtime.open_tensorrt(model, "cpu")


@pytest.mark.parametrize(("threads", "processes", "spins"), [(None, "1", None), (2, "1", "0"), (None, "2", "0")])
def test_threads_spin_only_where_the_machine_is_ours(model, monkeypatch, threads, processes, spins):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    seen = []

    def session(path, options, providers):
        seen.append((options.intra_op_num_threads, _entry(options, "session.intra_op.allow_spinning")))
        return real(path, options, providers=providers)

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    onnxruntime_runtime.open(model, "cpu", threads)
    assert seen == [(threads or 0, spins)]


def _entry(options: onnxruntime.SessionOptions, name: str) -> str | None:
    try:
        return options.get_session_config_entry(name)
    except RuntimeError:
        return None


def test_a_failure_while_running_is_one_line(model):
    with pytest.raises(CheckpointError, match=r"tiny\.onnx: onnxruntime failed at input"):
        onnxruntime_runtime.open(model).run(np.zeros((1, 4, 64, 64), np.float32), np.zeros((1, 77), np.float32))


def test_nothing_imports_torch(model):
    script = (
        "import sys, numpy as np; from oneformer_deploy import inference, info, __main__;"
        "from oneformer_deploy.results import files; from oneformer_deploy.runtimes import onnxruntime_runtime as onnx;"
        "from oneformer_spec.tasks import Task;"
        f"onnx.open({str(model)!r}).predict([np.zeros((32, 32, 3), np.uint8)], Task.PANOPTIC);"
        "print(sorted({'torch', 'transformers', 'oneformer_model', 'oneformer_data', 'onnx'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
