"""Encrypted weights: read with the key alone, and written by `convert` and `export` when they are told to."""

import onnx
import pytest
import torch

import oneformer_model
from oneformer_model import runtime
from oneformer_model.adapters import files
from oneformer_model.commands import quantize
from oneformer_model.onnx_export import export
from oneformer_model.weights import checkpoint
from oneformer_model.weights.conversion import WeightFormat, convert
from oneformer_spec.errors import CheckpointError, EncryptionKeyError, UsageError
from oneformer_spec.files import encryption
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import encrypted, is_encrypted, open_decrypted
from oneformer_spec.loading.load import load_spec

pytest.importorskip("cryptography")
KEY = "a key"


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(encryption, "COST", encryption.Cost(4, 8, 1))
    monkeypatch.delenv(encryption.KEY_VARIABLE, raising=False)


@pytest.fixture
def sealed(tmp_path, training_model, manifest):
    path = tmp_path / "model.pth"
    checkpoint.save(path, state_dict=training_model.state_dict(), manifest=manifest, key=KEY)
    return path


def test_every_reader_takes_the_key(sealed, training_model, monkeypatch):
    assert is_encrypted(sealed)
    weight = training_model.state_dict()["query_decoder.class_head.weight"]
    assert torch.equal(checkpoint.read(sealed, KEY)["state_dict"]["query_decoder.class_head.weight"], weight)
    assert torch.equal(oneformer_model.load(sealed, key=KEY).query_decoder.class_head.weight, weight)
    assert runtime.open(sealed, "cpu", key=KEY).manifest.labels
    monkeypatch.setenv(encryption.KEY_VARIABLE, KEY)
    assert torch.equal(oneformer_model.load(sealed).query_decoder.class_head.weight, weight)


@pytest.mark.parametrize("key", [None, "another"])
def test_without_the_key_it_is_not_read(sealed, key):
    for read in (checkpoint.read, runtime.open, oneformer_model.load):
        with pytest.raises(EncryptionKeyError, match=r"model\.pth: .*encryption_key"):
            read(sealed, key=key)


def test_damage_is_no_wrong_key(sealed):
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 1
    sealed.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.pth: is damaged: its content does not match its authentication"):
        oneformer_model.load(sealed, key=KEY)


@pytest.mark.parametrize(("form", "name"), [("huggingface", "folder/model.safetensors"), ("shi-labs", "shi.pth")])
def test_weights_of_others_may_be_encrypted_too(tmp_path, sealed, monkeypatch, form, name):
    monkeypatch.setenv(encryption.KEY_VARIABLE, KEY)
    file = tmp_path / name
    convert(sealed, file.parent if form == "huggingface" else file, to=WeightFormat(form))
    plain = files.tensors(file)
    write_atomically(file, encrypted(file.read_bytes(), KEY))
    found = files.tensors(file, KEY)
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    monkeypatch.delenv(encryption.KEY_VARIABLE)
    with pytest.raises(EncryptionKeyError):
        files.tensors(file)


def test_convert_takes_a_key_off_and_puts_one_on(tmp_path, sealed, monkeypatch):
    monkeypatch.setenv(encryption.KEY_VARIABLE, KEY)
    plain, again = tmp_path / "plain.pth", tmp_path / "again.pth"
    assert convert(sealed, plain).notes == (
        f"{plain}: is not encrypted, although {sealed} is; use --encrypt to encrypt it",
    )
    assert convert(plain, again, encrypt=True).notes == ()
    assert (is_encrypted(plain), is_encrypted(again)) == (False, True)
    one, other = checkpoint.read(plain)["state_dict"], checkpoint.read(again)["state_dict"]
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(UsageError, match="huggingface weights cannot be encrypted"):
        convert(plain, tmp_path / "folder", encrypt=True)
    monkeypatch.delenv(encryption.KEY_VARIABLE)
    with pytest.raises(UsageError, match="--encrypt: set the key in ONEFORMER_ENCRYPTION_KEY"):
        convert(plain, tmp_path / "third.pth", encrypt=True)


def test_a_quantized_checkpoint_is_encrypted(tmp_path, sealed):
    pytest.importorskip("torchao")
    words = ["quantize.backend=torchao", "quantize.device=cpu", f"quantize.model_path={sealed}"]
    with pytest.raises(EncryptionKeyError):
        quantize.run(load_spec([], [*words, f"results_dir={tmp_path}"]).spec, list)
    assert not (tmp_path / "quantize").exists()
    quantize.run(load_spec([], [*words, f"results_dir={tmp_path}", f"encryption_key={KEY}"]).spec, list)
    target = tmp_path / "quantize" / quantize.FILE_NAME
    assert is_encrypted(target)
    assert checkpoint.read(target, KEY)["quantized"]["backend"] == "torchao"


def test_an_export_is_encrypted(tmp_path, sealed, capsys):
    target = tmp_path / "model.etlt"
    words = [f"export.checkpoint={sealed}", f"export.onnx_file={target}", f"encryption_key={KEY}"]
    sizes = ["export.input_width=64", "export.input_height=64", "export.opset_version=17", f"results_dir={tmp_path}"]
    export.run(load_spec([], [*words, *sizes]).spec)
    assert "the checkpoint's logits, encrypted)" in capsys.readouterr().out
    with open_decrypted(target, KEY) as file:
        onnx.checker.check_model(onnx.load_from_string(file.read()))
    with pytest.raises(EncryptionKeyError):
        export.run(load_spec([], [*words[:1], *sizes, "encryption_key=x"]).spec)
