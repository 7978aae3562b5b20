import pickle
from dataclasses import replace

import pytest
import torch

import oneformer_model
from oneformer_model import task_tokens
from oneformer_model.build import build
from oneformer_model.weights import checkpoint
from oneformer_spec.errors import CheckpointError
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.tasks import Task


@pytest.fixture
def path(tmp_path, training_model, manifest):
    path = tmp_path / "model.pth"
    checkpoint.save(path, state_dict=training_model.state_dict(), manifest=manifest, extra={"training": {"epoch": 3}})
    return path


def test_a_loaded_model_predicts_the_same(path, training_model):
    image, tokens = torch.randn(1, 3, 64, 64), task_tokens(Task.INSTANCE)
    model = oneformer_model.load(path)
    assert not model.training
    assert model.text_branch is None
    training_model.eval()
    with torch.inference_mode():
        for found, expected in zip(model(image, tokens)[:2], training_model(image, tokens)[:2], strict=True):
            assert torch.equal(found, expected)


def test_training_keeps_the_text_branch(path, training_model):
    model = oneformer_model.load(path, training=True)
    assert model.state_dict().keys() == training_model.state_dict().keys()
    for name, value in training_model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_everything_beside_the_weights_comes_back(path, manifest):
    content = checkpoint.read(path)
    assert content["training"] == {"epoch": 3}
    assert Manifest.from_dict(content["manifest"], path) == manifest


def test_a_save_that_fails_leaves_the_old_file(path, training_model, manifest):
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"checkpoint\['training'\]\['callback'\]: function"):
        checkpoint.save(
            path, state_dict=training_model.state_dict(), manifest=manifest, extra={"training": {"callback": print_it}}
        )
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def print_it():
    """Something that no checkpoint may hold."""


class Hostile:
    """A pickle that would make a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_hostile_pickle_does_nothing(tmp_path, write):
    path, target = tmp_path / "hostile.pth", tmp_path / "made"
    write({"state_dict": {}, "manifest": Hostile(target)}, path)
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(path)
    assert (
        str(error.value) == f"{path}: refused: it is not a checkpoint, or it contains more than tensors and plain data"
    )
    assert not target.exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(tmp_path / "none.pth")
    assert str(error.value) == f"{tmp_path / 'none.pth'}: does not exist"


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.99])
def test_a_truncated_file_is_one_line(path, kept):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(path)
    assert str(error.value).startswith(f"{path}: is ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"model": {}}, [1, 2], {"state_dict": [], "manifest": {}}])
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="not a oneformer checkpoint"):
        checkpoint.read(path)


def test_tensors_that_do_not_fit_are_all_listed(path, training_model):
    state = training_model.state_dict()
    weight = state.pop("query_decoder.class_head.weight")
    state["query_decoder.class_head.weights"] = weight
    state["query_decoder.class_head.bias"] = torch.zeros(7)
    before = {name: value.clone() for name, value in training_model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_state(training_model, state, path)
    assert str(error.value) == (
        f"{path}: its tensors do not fit the model; missing: query_decoder.class_head.weight; "
        "unexpected: query_decoder.class_head.weights; misshapen: query_decoder.class_head.bias [7] instead of [4]"
    )
    assert all(torch.equal(value, before[name]) for name, value in training_model.state_dict().items())


def test_a_manifest_that_cannot_be_built_is_one_line(tmp_path, training_model, manifest):
    path = tmp_path / "model.pth"
    model = {**manifest.model, "backbone": {**manifest.model["backbone"], "type": "of-a-plugin"}}
    lacking = replace(manifest, model=model, plugins={"backbone of-a-plugin": "moss-tools==1.2"})
    checkpoint.save(path, state_dict=training_model.state_dict(), manifest=lacking)
    message = r"its model cannot be built: .*of-a-plugin.*; install it with: python -m pip install 'moss-tools==1\.2'$"
    with pytest.raises(CheckpointError, match=message):
        oneformer_model.load(path)


def test_the_network_is_built_from_the_manifest_alone(manifest, section):
    again = checkpoint.model_section(manifest)
    assert build(again, training=True).state_dict().keys() == build(section(), training=True).state_dict().keys()
