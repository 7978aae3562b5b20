"""What runs an engine, up to what a host without a GPU can show: shapes, addresses and batches, no results."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_onnx import manifest

from oneformer_deploy.engines import library
from oneformer_deploy.engines.engine_file import EngineFacts, EngineFile
from oneformer_deploy.runtimes import gpu_memory, tensorrt_runtime
from oneformer_deploy.runtimes.tensorrt_runtime import EngineRunner
from oneformer_spec.errors import CheckpointError, UsageError

FACTS = EngineFacts("tensorrt_rtx", "1.0", "fp16", (2, 2, 4), None)


class Memory:
    """Numpy arrays under made-up addresses."""

    stream = 7

    def __init__(self):
        self.sizes, self.uploads = {}, []

    def reserve(self, name, size):
        self.sizes[name] = size
        return 1000 + len(self.sizes)

    def upload(self, name, values):
        assert values.flags.c_contiguous and values.dtype == np.float32
        self.uploads.append((name, values.shape))
        return 2000

    def download(self, name, shape):
        assert self.sizes[name] == np.prod(shape) * 4
        return np.full(shape, len(self.uploads), dtype=np.float32)

    def synchronize(self):
        pass


class Engine:
    """Answers what TensorRT's engine and context are asked."""

    def __init__(self, names=("image", "task_tokens", "class_logits", "mask_logits"), dtype="float"):
        self.names, self.dtype, self.shapes, self.runs = names, dtype, {}, []
        self.num_io_tensors = len(names)
        self.create_execution_context = lambda: self
        self.get_tensor_name = lambda index: names[index]
        self.get_tensor_dtype = lambda name: dtype
        self.set_tensor_address = lambda name, address: True

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return shape[0] <= 4

    def get_tensor_shape(self, name):
        return (self.shapes["image"][0], 5, 4) if name == "class_logits" else (self.shapes["image"][0], 5, 16, 16)

    def execute_async_v3(self, stream):
        self.runs.append((stream, self.shapes["image"]))
        return True


def runner(engine, memory=None):
    return EngineRunner("m.engine", engine, FACTS, memory or Memory(), float_type="float")


@pytest.mark.parametrize(("count", "batches"), [(1, [2]), (4, [4]), (7, [4, 3]), (9, [4, 4, 2])])
def test_a_batch_of_any_size_is_split_and_filled_up(count, batches):
    engine = Engine()
    image, tokens = np.zeros((count, 3, 64, 64), np.float32), np.zeros((count, 77), np.float32)
    class_logits, mask_logits = runner(engine).run(image[..., ::-1], tokens)
    assert [shape[0] for _, shape in engine.runs] == batches
    assert {stream for stream, _ in engine.runs} == {7}
    assert class_logits.shape == (count, 5, 4) and mask_logits.shape == (count, 5, 16, 16)


def test_an_engine_without_our_names_is_reported():
    with pytest.raises(CheckpointError, match=r"m\.engine: the engine has no mask_logits; it has boxes"):
        runner(Engine(names=("image", "task_tokens", "class_logits", "boxes")))


def test_an_engine_of_other_types_is_reported():
    with pytest.raises(CheckpointError, match="image is half, expected float32"):
        runner(Engine(dtype="half"))


class Library:
    name, version = "tensorrt_rtx", "1.0"


@pytest.fixture
def engine_file(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "load", lambda name: Library())
    path = tmp_path / "m.engine"
    EngineFile(manifest(), FACTS, b"engine").write(path)
    return path


def test_an_engine_of_another_version_names_both_versions(engine_file, monkeypatch):
    monkeypatch.setattr(Library, "version", "1.1")
    with pytest.raises(CheckpointError, match=r"was built by tensorrt_rtx 1\.0, but 1\.1 is installed; build it again"):
        tensorrt_runtime.open(engine_file)


@pytest.mark.parametrize("device", ["auto", "cuda:0", "cuda:3"])
def test_a_host_without_gpu_is_reported(engine_file, monkeypatch, device):
    monkeypatch.setattr(gpu_memory, "count_gpus", lambda: 0)
    with pytest.raises(CheckpointError, match="this host has 0 CUDA GPUs"):
        tensorrt_runtime.open(engine_file, device)


def test_an_engine_does_not_run_on_the_cpu(engine_file):
    with pytest.raises(CheckpointError, match="available: auto, cuda and cuda:N"):
        tensorrt_runtime.open(engine_file, "cpu")


def test_a_missing_package_names_its_pip_command(monkeypatch):
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"python -m pip install 'oneformer-deploy\[tensorrt-rtx\]'"):
        library.load("tensorrt_rtx")
    with pytest.raises(UsageError, match=r"\[tensorrt\]' or python -m pip install 'oneformer-deploy\[tensorrt-rtx\]'"):
        library.load()


def test_missing_bindings_name_their_pip_command(monkeypatch):
    monkeypatch.setattr(gpu_memory, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="python -m pip install cuda-bindings"):
        gpu_memory.count_gpus()
