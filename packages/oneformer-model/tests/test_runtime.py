import numpy as np
import pytest
import torch

import oneformer_model
from oneformer_model import runtime, task_tokens
from oneformer_model.weights import checkpoint
from oneformer_spec.errors import CheckpointError
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.tasks import TASKS, Task


@pytest.fixture
def path(tmp_path, training_model, manifest):
    path = tmp_path / "model.pth"
    checkpoint.save(path, state_dict=training_model.state_dict(), manifest=manifest)
    return path


@pytest.mark.parametrize("task", TASKS)
def test_pictures_of_any_size_are_segmented_at_their_size(path, task):
    segmenter = runtime.open(path)
    pictures = [np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8) for size in ((50, 70, 3), (90, 40, 3))]
    results = segmenter.predict(pictures, task)
    assert [result.map.shape for result in results] == [(50, 70), (90, 40)]
    assert all(result.task == task for result in results)


def test_logits_are_the_models(path):
    image = torch.randn(1, 3, 64, 96)
    found = runtime.open(path, "cpu").run(image.numpy(), task_tokens(Task.SEMANTIC).numpy())
    with torch.inference_mode():
        expected = oneformer_model.load(path)(image, task_tokens(Task.SEMANTIC))
    assert torch.equal(found[0], expected.class_logits)
    assert torch.equal(found[1], expected.mask_logits)


def test_bf16_is_near_and_rounds_no_token_of_a_task(path):
    image = torch.randn(1, 3, 64, 96).numpy()
    exact, rounded = (runtime.open(path, "cpu", precision=precision) for precision in ("fp32", "bf16"))
    for task in TASKS:
        tokens = task_tokens(task).numpy()
        one, other = exact.run(image, tokens)[0], rounded.run(image, tokens)[0].float()
        assert 0 < (one - other).abs().max() < 0.1 * one.abs().max()


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(path, device):
    with pytest.raises(CheckpointError, match=f"{path}: no device '{device}'"):
        runtime.open(path, device)


def test_the_plugin_points_at_what_exists():
    from oneformer_model import plugin

    assert resolve(plugin.oneformer_runtimes()[0].target) is runtime.open
    assert [command.name for command in plugin.oneformer_commands()] == ["export", "convert", "model-info"]
    tasks = [command for command in plugin.oneformer_commands() if command.kind == "task"]  # an app needs typer
    assert all(callable(resolve(command.target)) for command in tasks)
