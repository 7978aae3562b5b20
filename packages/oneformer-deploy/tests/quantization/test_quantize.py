from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_onnx import write_model

pytest.importorskip("onnx")
pytest.importorskip("sympy")

import onnx
import onnx.parser
from onnxruntime import InferenceSession

from oneformer_deploy.quantization import weight_only
from oneformer_deploy.quantization.command import run
from oneformer_deploy.quantization.int8_graph import prepare
from oneformer_deploy.runtimes import onnxruntime_runtime as runtime
from oneformer_deploy.runtimes.onnx_metadata import read_onnx_file
from oneformer_spec.errors import OneFormerError, SpecError, UsageError
from oneformer_spec.loading.load import load_spec
from oneformer_spec.tasks import TASKS


@pytest.fixture
def quantize(model, pictures, tmp_path):
    def start(*words):
        base = [f"results_dir={tmp_path}", f"quantize.model_path={model}", *words]
        run(load_spec([], base).spec)
        folder = tmp_path / "quantize"
        return folder / "model_int8.onnx", json.loads((folder / "quantize.json").read_text())

    start.static = (
        "quantize.mode=static_ptq",
        f"dataset.quant_calibration_dataset.images_dir={pictures}",
    )
    return start


def kinds(path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("algorithm", ["minmax", "entropy"])
def test_int8_layers_find_the_same(quantize, scene, model, algorithm):
    path, report = quantize(*quantize.static, f"quantize.algorithm={algorithm}", "quantize.max_metric_drop=0.05")
    assert {"QuantizeLinear", "DequantizeLinear"} <= {*kinds(path)}
    assert report["quantized"] and report["kept"] == []
    assert report["scores_are"] == "agreement with the float model"
    for task in TASKS:
        was, now = (runtime.open(file).predict([scene], task)[0] for file in (model, path))
        assert (was.map != now.map).mean() < 0.02
        assert report["scores_after"][task.value] >= 0.95


@pytest.mark.parametrize("words", [(), ("quantize.device=trt",)], ids=["uint8", "symmetric"])
def test_openvino_takes_both_forms(quantize, scene, model, words):
    pytest.importorskip("openvino")
    from oneformer_deploy.runtimes import openvino_runtime

    path, _ = quantize(*quantize.static, *words, "quantize.max_metric_drop=0.2")
    for task in TASKS:
        was, now = (openvino_runtime.open(file, num_threads=1).predict([scene], task)[0] for file in (model, path))
        assert (was.map != now.map).mean() < 0.02


def test_openvino_computes_in_bf16_what_is_left(quantize, scene, tmp_path):
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not support bf16")
    from oneformer_deploy.runtimes import openvino_runtime

    model = write_model(tmp_path / "fixed.onnx", image=("batch", 3, 64, 96))
    path, _ = quantize(*quantize.static, f"quantize.model_path={model}", "quantize.max_metric_drop=0.2")
    segmenter = openvino_runtime.open(path, num_threads=1, precision="bf16")
    for task in TASKS:
        (was,) = runtime.open(model).predict([scene], task)
        for now in segmenter.predict([scene, scene], task):
            assert (was.map != now.map).mean() < 0.02


def test_layers_are_chosen_with_the_runtime_that_evaluates(quantize, monkeypatch):
    pytest.importorskip("openvino")

    def other(*arguments, **options):
        raise AssertionError("onnxruntime served")

    monkeypatch.setattr(runtime, "open", other)
    words = [*quantize.static, "evaluate.runtime=openvino", "evaluate.num_threads=1"]
    _, report = quantize(*words, "quantize.max_metric_drop=0.2")
    assert report["served"] == {"runtime": "openvino", "precision": "fp32"}
    with pytest.raises(OneFormerError, match="the least sensitive group, Conv_1, gives"):
        quantize(*words, "quantize.max_metric_drop=1e-9")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate.precision=bf16",), "the runtime onnxruntime does not support bf16; available: fp32"),
        (("evaluate.runtime=openvino", "evaluate.precision=fp64"), "evaluate.precision"),
        (("evaluate.runtime=mystery",), "runtime 'mystery' is not installed here"),
    ],
)
def test_a_runtime_that_cannot_serve_is_reported_first(quantize, tmp_path, words, message):
    with pytest.raises((UsageError, SpecError), match=message):
        quantize(*words)
    assert not (tmp_path / "quantize").exists()


def test_the_manifest_stays_and_what_was_done_is_recorded(quantize, model):
    path, _ = quantize(*quantize.static)
    assert read_onnx_file(path).manifest() == read_onnx_file(model).manifest()
    assert json.loads(read_onnx_file(path).metadata["oneformer_quantized"])["mode"] == "static_ptq"


def test_weights_alone(quantize, scene, model):
    path, report = quantize()
    assert kinds(path).count("DequantizeLinear") == 1 and "QuantizeLinear" not in kinds(path)
    assert report["quantized"] == ["Conv_1"]
    (was,), (now,) = (runtime.open(file).predict([scene], TASKS[2]) for file in (model, path))
    np.testing.assert_array_equal(was.map, now.map)


def test_a_quantized_file_is_refused(quantize):
    path, _ = quantize()
    with pytest.raises(OneFormerError, match="is already quantized"):
        quantize(f"quantize.model_path={path}")


def test_an_engine_needs_symmetric_ranges(quantize):
    path, _ = quantize(*quantize.static, "quantize.device=trt", "quantize.max_metric_drop=0.2")
    zeros = [onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if "zero_point" in t.name]
    assert zeros and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("quantize.model_path=",), "quantize.model_path: is not set"),
        (("quantize.model_path=a.pth",), "for .pth files set backend: torchao"),
        (("quantize.mode=static_ptq",), "images_dir: is not set; static_ptq needs images"),
        (
            ("quantize.algorithm=entropy",),
            "found entropy, expected one of minmax, max, rtn_dq with mode weight_only_ptq",
        ),
        (
            ("quantize.backend_kwargs={SmoothQuant: true}",),
            "no such option: 'SmoothQuant'; available with weight_only_ptq: none",
        ),
        (("quantize.skip_names=[Conv_2]",), "skip_names[0]: 'Conv_2' matches none of the 1 layers; similar: Conv_1"),
        (("quantize.layers=[{module_name: Gemm}]",), "layers[0].module_name: 'Gemm' matches none"),
    ],
)
def test_impossible_settings_are_reported_before_anything_is_written(quantize, tmp_path, words, message):
    with pytest.raises(SpecError) as caught:
        quantize(*words)
    assert message in str(caught.value)
    assert not (tmp_path / "quantize").exists()


def test_a_misspelt_option_of_the_library_is_reported(quantize):
    with pytest.raises(
        SpecError, match=r"no such option: 'SmothQuant'; available with static_ptq: ActivationSymmetric"
    ):
        quantize(*quantize.static, "quantize.backend_kwargs={SmothQuant: true}")


def test_missing_packages_name_the_pip_command(quantize, monkeypatch):
    monkeypatch.setattr("oneformer_deploy.extras.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"quantize needs onnx, sympy; .* 'oneformer-deploy\[quantize\]'"):
        quantize()


def test_rounding_is_to_the_nearest_of_255_steps_per_channel():
    weights = np.array([[1.0, -0.5], [0.0, 0.0], [1e-3, 5e-4]], dtype=np.float32)
    values, scales = weight_only.rounded(weights, 0)
    np.testing.assert_allclose(values * scales[:, None], weights, atol=1 / 254)
    assert values.dtype == np.int8 and values[0, 0] == 127 and scales[1] == 1
    np.testing.assert_allclose(values[2] * scales[2], weights[2], atol=1e-3 / 254)


def test_scales_need_no_separate_float_model(tmp_path):
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[1].name = "Conv_1"
    weight_only.store_int8(model, ["Conv_1"])
    onnx.checker.check_model(model, full_check=True)
    assert "mask_weights" not in {tensor.name for tensor in model.graph.initializer}


def padded_and_turned() -> onnx.ModelProto:
    """Return a graph that pads to whole windows of 8, turns the rows by 3 and cuts: Swin's way with any height."""
    numbers = {"zeros": [0, 0, 0, 0], "zero": [0], "one": [1], "two": [2], "three": [3], "seven": [7], "eight": [8]}
    constants = [onnx.numpy_helper.from_array(np.int64(value), name) for name, value in numbers.items()]
    weights = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    text = """
        shape = Shape (x)
        height = Slice (shape, one, two)
        above = Add (height, seven)
        windows = Div (above, eight)
        whole = Mul (windows, eight)
        missing = Sub (whole, height)
        pads = Concat <axis = 0> (zeros, missing, zero)
        padded = Pad (x, pads)
        mixed = MatMul (padded, weights)
        tail = Slice (mixed, three, whole, one)
        head = Slice (mixed, zero, three, one)
        turned = Concat <axis = 1> (tail, head)
        cut = Slice (turned, zero, height, one)
        y = Add (cut, x)
    """
    graph = onnx.parser.parse_graph(f"turn (float[1, rows, 4] x) => (float[1, rows, 4] y) {{ {text} }}")
    graph.initializer.extend([*constants, onnx.numpy_helper.from_array(weights, "weights")])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_sizes_that_padding_changes_are_not_taken_for_equal():
    ready, height = prepare(padded_and_turned()), 9
    ready.graph.output.extend(ready.graph.value_info)  # as calibration looks at everything
    found = InferenceSession(ready.SerializeToString()).run(None, {"x": np.ones((1, height, 4), np.float32)})
    named = [
        there
        for value, array in zip(ready.graph.output, found, strict=True)
        for size, there in zip(value.type.tensor_type.shape.dim, array.shape, strict=True)
        if size.dim_param == "rows"
    ]
    assert named
    assert {*named} == {height}
