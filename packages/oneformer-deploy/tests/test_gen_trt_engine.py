"""Engines of the tiny model, built by TensorRT-RTX, which needs no GPU to build."""

from __future__ import annotations

import pytest
from tiny_onnx import write_model

pytest.importorskip("onnx")
pytest.importorskip("cuda.bindings")
pytest.importorskip("tensorrt_rtx")

from oneformer_deploy.engines.engine_file import read_engine_file
from oneformer_deploy.gen_trt_engine import run
from oneformer_deploy.quantization import command as quantize
from oneformer_deploy.runtimes import gpu_memory
from oneformer_spec.errors import DataError, OneFormerError, SpecError
from oneformer_spec.loading.load import load_spec

SIZE = "gen_trt_engine.tensorrt"
DYNAMIC = (f"{SIZE}.opt_batch_size=2", f"{SIZE}.max_batch_size=4")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(gpu_memory, "count_gpus", lambda: 0)


@pytest.fixture
def graph(tmp_path):
    return write_model(tmp_path / "m.onnx", image=("batch", 3, 64, 64), length=77)


def build(graph, *words):
    folder = graph.parent
    run(load_spec([], [f"results_dir={folder}", f"gen_trt_engine.onnx_file={graph}", *words]).spec)
    return read_engine_file(folder / "gen_trt_engine" / "model.engine")


@pytest.mark.parametrize("data_type", ["fp32", "fp16", "bf16"])
def test_builds_with_an_open_batch(graph, data_type, capsys):
    found = build(graph, *DYNAMIC, f"{SIZE}.data_type={data_type}")
    assert found.facts.batch == (1, 2, 4)
    assert (found.facts.library, found.facts.data_type, found.facts.gpu) == ("tensorrt_rtx", data_type, None)
    assert [label.name for label in found.manifest.labels] == ["red", "green", "dark"]
    assert f"{data_type}, batch 1 to 4" in capsys.readouterr().out


@pytest.mark.parametrize("data_type", ["int8", "fp8"])
def test_eight_bits_are_calibrated_with_pictures(graph, pictures, data_type):
    words = (f"{SIZE}.data_type={data_type}", f"{SIZE}.layers_precision=[Conv*:{data_type}]")
    images = f"dataset.quant_calibration_dataset.images_dir={pictures}"
    plain, small = build(graph, f"{SIZE}.data_type=fp32"), build(graph, *words, images)
    assert small.engine != plain.engine


def test_eight_bits_without_pictures_are_refused(graph):
    with pytest.raises(SpecError, match=r"quant_calibration_dataset\.images_dir: is not set; int8 needs images"):
        build(graph, f"{SIZE}.data_type=int8")


def test_a_folder_without_pictures_is_refused(graph, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no images"):
        build(graph, f"{SIZE}.data_type=int8", f"dataset.quant_calibration_dataset.images_dir={tmp_path / 'empty'}")


def test_a_fixed_batch_must_match_the_profile(tmp_path):
    fixed = write_model(tmp_path / "m.onnx", image=(2, 3, 64, 64), length=77)
    with pytest.raises(OneFormerError, match=r"m\.onnx: its batch size is fixed at 2, but .* asks for 1 to 4"):
        build(fixed, *DYNAMIC)
    assert build(fixed, f"{SIZE}.min_batch_size=2", f"{SIZE}.opt_batch_size=2", f"{SIZE}.max_batch_size=2").engine
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_open_size_is_reported(tmp_path):
    with pytest.raises(OneFormerError, match="input image has an open height, width or length"):
        build(write_model(tmp_path / "m.onnx", length=77))


def test_a_graph_that_tensorrt_cannot_parse_is_one_line(graph):
    graph.write_bytes(graph.read_bytes().replace(b"AveragePool", b"AveragePoof"))
    with pytest.raises(OneFormerError, match=r"m\.onnx: tensorrt_rtx cannot parse it: AveragePoof ") as caught:
        build(graph)
    assert "\n" not in str(caught.value)
    assert not list(graph.parent.rglob("*.engine"))


def test_a_layer_that_is_not_there_is_reported(graph):
    with pytest.raises(SpecError, match=r"layers_precision: 'Convx\*' matches none of the 7 layers"):
        build(graph, f"{SIZE}.layers_precision=[Convx*:fp32]")


def test_a_gpu_that_is_not_there_is_reported(graph):
    with pytest.raises(SpecError, match=r"gen_trt_engine\.gpu_id: 1: this host has 0 CUDA GPUs"):
        build(graph, "gen_trt_engine.gpu_id=1")


def test_names_are_asked_for(graph):
    with pytest.raises(SpecError, match=r"gen_trt_engine\.onnx_file: is not set"):
        build(graph, "gen_trt_engine.onnx_file=")
    with pytest.raises(SpecError, match=r"expected a file name ending in \.engine"):
        build(graph, "gen_trt_engine.trt_engine=a.plan")


def test_a_timing_cache_is_noted_as_useless(graph, tmp_path, capsys):
    build(graph, f"gen_trt_engine.timing_cache={tmp_path / 'cache'}")
    assert "timing_cache has no effect" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_verbose_prints_the_messages_of_tensorrt(graph, capsys):
    build(graph, "gen_trt_engine.verbose=true")
    assert "Registering layer" in capsys.readouterr().err


def quantized(graph, pictures, *words):
    images = f"dataset.quant_calibration_dataset.images_dir={pictures}"
    base = [f"quantize.model_path={graph}", "quantize.mode=static_ptq", "quantize.max_metric_drop=1", images]
    quantize.run(load_spec([], [*base, f"results_dir={graph.parent}", *words]).spec)
    return graph.parent / "quantize" / "model_int8.onnx"


def test_a_file_quantized_for_tensorrt_brings_its_own_layers(graph, pictures):
    path = quantized(graph, pictures, "quantize.device=trt")
    assert build(graph, f"gen_trt_engine.onnx_file={path}", f"{SIZE}.data_type=int8").engine


def test_a_file_quantized_for_the_cpu_is_reported(graph, pictures):
    path = quantized(graph, pictures)
    with pytest.raises(OneFormerError, match=r"model_int8\.onnx: its 8-bit layers .* quantize\.device=trt"):
        build(graph, f"gen_trt_engine.onnx_file={path}")
