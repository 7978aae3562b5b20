"""The command `convert`, and what it prints."""

import pytest

pytest.importorskip("typer", reason="typer comes with oneformer-cli")

from typer.testing import CliRunner

from oneformer_model.commands.convert import app
from oneformer_model.weights import checkpoint
from oneformer_spec.errors import UsageError


def convert(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def source(tmp_path, training_model, manifest):
    path = tmp_path / "model.pth"
    checkpoint.save(path, state_dict=training_model.state_dict(), manifest=manifest)
    return path


def test_it_says_what_was_found_and_written(tmp_path, source, training_model):
    count = len(training_model.state_dict())
    result = convert(source, tmp_path / "shi.pth", "--to", "shi-labs")
    assert result.output.splitlines() == [
        f"{source}: oneformer, 3 classes, with its text branch",
        f"{tmp_path / 'shi.pth'}: shi-labs, {count} tensors",
    ]
    result = convert(tmp_path / "shi.pth", tmp_path / "again.pth", "--inference")
    assert result.stdout.splitlines()[0] == f"{tmp_path / 'shi.pth'}: SHI-Labs, 3 classes, without a text branch"
    assert result.stderr == f"note: {tmp_path / 'shi.pth'}: contains no class names; set them with --label-map\n"


def test_an_unknown_form_and_a_taken_target_are_refused(tmp_path, source):
    with pytest.raises(UsageError, match=r"--to onnx: is not one of oneformer, huggingface, shi-labs"):
        convert(source, tmp_path / "a", "--to", "onnx")
    with pytest.raises(UsageError, match=r"exists; replace it with --force"):
        convert(source, source)
    assert convert(source, source, "--force").exit_code == 0
