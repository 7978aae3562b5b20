"""Files of others are read without running what they name."""

import collections
import functools
import io
import os
import pickle
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import oneformer_model
from oneformer_model.adapters.files import tensors
from oneformer_spec.errors import CheckpointError

TENSORS = {
    "matrix": torch.arange(12.0).view(3, 4),
    "transposed": torch.arange(6.0).view(2, 3).t(),
    "view": torch.arange(16.0).view(4, 4)[1:3, 1:3],
    "half": torch.tensor([1.5, -2.0]).half(),
    "index": torch.arange(3),
    "flag": torch.tensor([True, False]),
    "scalar": torch.tensor(2.0),
    "empty": torch.zeros(0, 4),
}


LIBRARY = """
import enum
class Settings:
    def __init__(self):
        self.lr = {"base": 1e-4}
class Mode(enum.Enum):
    FULL = "full"
class Config(dict):
    pass
"""


@pytest.fixture
def foreign(monkeypatch):
    """Objects of a library that is not installed here, as old training frameworks pickle them."""
    library = types.ModuleType("somebodys_library")
    exec(LIBRARY, library.__dict__)
    monkeypatch.setitem(sys.modules, library.__name__, library)
    return {
        "settings": library.Settings(),
        "mode": library.Mode.FULL,
        "config": library.Config(a=1),
        "path": Path("/data"),
        "number": np.float64(3),
        "defaults": collections.defaultdict(list, {"a": [1]}),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "set": {1, 2},
    }


def save_zip(content, path):
    torch.save(content, path)


def save_old(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


def check(found):
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("save", [save_zip, save_old])
def test_tensors_come_back_from_a_file_with_foreign_objects(tmp_path, foreign, save):
    parameters = {name: torch.nn.Parameter(value, value.is_floating_point()) for name, value in TENSORS.items()}
    save({"state_dict": collections.OrderedDict(parameters), "hyper_parameters": foreign}, tmp_path / "a.pth")
    check(tensors(tmp_path / "a.pth"))


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_come_back_from_a_plain_pickle(tmp_path, foreign, protocol):
    arrays = {name: value.numpy() for name, value in TENSORS.items()}
    content = {"model": arrays, "__author__": "third_party", "extra": foreign}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    check(tensors(tmp_path / "a.pkl"))


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


MADE = "made-by-a-pickle"
CALLS = {
    "posix.system": Call(os.system, f"touch {MADE}"),
    "builtins.eval": Call(eval, f"open({MADE!r}, 'w')"),
    "builtins.exec": Call(exec, f"open({MADE!r}, 'w')"),
    "builtins.getattr": Call(getattr, Call(__import__, "os"), "system"),
    "subprocess.Popen": Call(subprocess.Popen, ["touch", MADE]),
    "functools.partial": Call(functools.partial, os.system, f"touch {MADE}"),
    "io.open": Call(open, MADE, "w"),
    "torch.serialization.load": Call(torch.load, "other.pth"),
    "torch.jit._serialization.load": Call(torch.jit.load, "other.pt"),
    "numpy.load": Call(np.load, "other.npy"),
}


@pytest.mark.parametrize("save", [save_zip, save_old, save_pickle])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_no_weights_need_is_refused_and_not_made(tmp_path, monkeypatch, save, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pth"
    save({"state_dict": {"query": [1.0]}, "epoch": CALLS[name]}, path)
    with pytest.raises(CheckpointError) as error:
        oneformer_model.load(path)
    assert str(error.value) == f"{path}: refused: it refers to {name}, which weights never need"
    assert os.listdir() == ["a.pth"]


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
RAW = {
    "attributes of what a name found": (REBUILD + b"(N(dS'__defaults__'\n(I1\ntstb0(d.", "no named tensors"),
    "a name with dots": (b"\x80\x04\x8c\x01a\x8c\x14x.__globals__.system\x93(\x8c\x01atR.", "no named tensors"),
    "a class that is a function": (b"\x80\x02" + REBUILD + b")\x81.", "is damaged"),
    "a module as data": (b"\x80\x02(S'module'\nc__builtin__\nobject\nS'x'\ntQ.", "data outside a torch file"),
    "an extension": (b"\x82\x01.", "is damaged"),
    "the old instance": (b"(S'touch " + MADE.encode() + b"'\nios\nsystem\n.", r"refers to os\.system"),
    "the old object": (b"(cos\nsystem\nS'touch " + MADE.encode() + b"'\no.", r"refers to os\.system"),
    "a call kept in the memo": (b"\x80\x02cos\nsystem\nq\x00h\x00(S'touch " + MADE.encode() + b"'\ntR.", "refers to"),
    "a memo of many gigabytes": (b"\x80\x02Nr\xff\xff\xff\x7f.", "no named tensors"),
    "bytes that are not there": (b"\x80\x05\x96" + (2**45).to_bytes(8, "little") + b"x.", "is damaged"),
    "nothing": (b"", "is damaged"),
    "no pickle": (b"hello", "is damaged"),
}


@pytest.mark.parametrize("name", RAW)
def test_tricks_of_pickles_end_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, expected = RAW[name]
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(CheckpointError, match=expected) as error:
        tensors(path)
    assert "\n" not in str(error.value)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults
    assert os.listdir() == ["a.pkl"]


def test_a_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/data/0", b"\0" * 2**20)
    with pytest.raises(CheckpointError, match="unpacks to more than its own size"):
        tensors(tmp_path / "a.pth")


def test_a_tensor_cannot_be_larger_than_its_numbers(tmp_path):
    torch.save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"contains a tensor of shape \[1099511627776\] with only 1 numbers"):
        tensors(tmp_path / "a.pth")


@pytest.mark.parametrize("save", [save_zip, save_old])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.99])
def test_a_truncated_file_is_one_line(tmp_path, save, part):
    path = tmp_path / "a.pth"
    save({"state_dict": TENSORS}, path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"a\.pth: is damaged or contains no weights") as error:
        tensors(path)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_or_hold_something_else(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pth: does not exist$"):
        oneformer_model.load(tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list\.pth: contains no named tensors$"):
        oneformer_model.load(tmp_path / "list.pth")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: is damaged or not a safetensors file"):
        oneformer_model.load(tmp_path / "a.safetensors")
    buffer = io.BytesIO()
    torch.save({"somebodys.weight": torch.zeros(1)}, buffer)
    (tmp_path / "b.pth").write_bytes(buffer.getvalue())
    with pytest.raises(
        CheckpointError, match=r"its tensor names \(somebodys\.weight, …\) match no supported format: Hugging Face"
    ):
        oneformer_model.load(tmp_path / "b.pth")


def test_an_exported_model_is_told_from_a_damaged_checkpoint(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08")
    with pytest.raises(CheckpointError, match=r"model\.onnx: is an exported model; use the checkpoint"):
        tensors(path)
