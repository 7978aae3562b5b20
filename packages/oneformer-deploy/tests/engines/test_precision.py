from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from tiny_onnx import write_model

pytest.importorskip("onnx")

import onnx

from oneformer_deploy.engines import precision
from oneformer_spec.errors import SpecError
from oneformer_spec.tasks import Task, task_row

HALF = onnx.TensorProto.FLOAT16


@pytest.fixture
def graph(tmp_path):
    loaded = onnx.load(write_model(tmp_path / "m.onnx"))
    precision.name_nodes(loaded)
    return loaded


def formats(graph, data_type="fp16", patterns=()):
    return precision.layer_formats(graph.graph, data_type, patterns)


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 64)).astype(np.float32)
    tokens = np.array([task_row(task) for task in (Task.INSTANCE, Task.PANOPTIC)], dtype=np.float32)
    return session.run(["class_logits", "mask_logits"], {"image": image, "task_tokens": tokens})


def test_fp16_gives_nearly_the_same_and_floats_at_the_ends(graph):
    written = precision.write_formats(graph, formats(graph, patterns=["Conv*:fp16"]))
    for was, now in zip(run(graph), run(written), strict=True):
        assert now.dtype == np.float32
        np.testing.assert_allclose(now, was, atol=0.02 * np.abs(was).max())
    assert {tensor.data_type for tensor in written.graph.initializer if tensor.name.startswith("mask_")} == {HALF}
    onnx.checker.check_model(written, full_check=True)


def test_fp32_changes_nothing(graph):
    written = precision.write_formats(graph, formats(graph, "fp32"))
    for was, now in zip(run(graph), run(written), strict=True):
        np.testing.assert_array_equal(now, was)


def test_token_ids_are_never_rounded(graph):
    chosen = formats(graph)
    by_type = {node.op_type: chosen[node.name] for node in graph.graph.node}
    assert by_type["Gather"] == by_type["Equal"] == "fp32", "16 bits do not hold ids up to 49407"
    assert by_type["AveragePool"] == "fp16"


def test_the_product_that_gives_masks_stays_fp32(graph):
    assert next(formats(graph)[node.name] for node in graph.graph.node if node.op_type == "Conv") == "fp32"


def test_the_last_matching_pattern_wins(graph):
    chosen = formats(graph, "fp32", ["Conv*:fp16", "*Pool*: BF16", "*Pool*:fp16"])
    assert {node.op_type for node in graph.graph.node if chosen[node.name] == "fp16"} == {"Conv", "AveragePool"}


def test_every_bad_pattern_is_reported_with_close_names(graph):
    name = next(node.name for node in graph.graph.node if node.op_type == "Conv")
    with pytest.raises(SpecError) as caught:
        formats(graph, "fp16", [f"{name}x:fp32", "nothing", "a:fp12"])
    first, second, third = caught.value.problems
    assert f"'{name}x' matches none of the {len(graph.graph.node)} layers; similar: {name}" in first
    assert "found 'nothing', expected layer:format" in second
    assert "fp32, fp16, bf16, int8, fp8" in third


def test_numbers_that_stand_for_infinity_stay_finite_in_fp16():
    large = onnx.numpy_helper.from_array(np.array([-1e9, np.inf, 1.0], np.float32), "mask")
    stored = onnx.numpy_helper.to_array(precision._converted(large, "mask", "fp16"))
    assert stored.tolist() == [-65504.0, np.inf, 1.0]
