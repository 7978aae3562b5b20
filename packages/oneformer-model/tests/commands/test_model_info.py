import json

import pytest
from torch import nn

from oneformer_model import build as building
from oneformer_model.commands import model_info
from oneformer_model.commands.model_info import PARTS, Network
from oneformer_spec.errors import OneFormerError, SpecError
from oneformer_spec.loading.load import load_spec

WORDS = (
    "model.sem_seg_head.num_classes=3",
    "model.sem_seg_head.convs_dim=32",
    "model.sem_seg_head.mask_dim=32",
    "model.sem_seg_head.transformer_enc_layers=1",
    "model.one_former.hidden_dim=32",
    "model.one_former.dec_layers=2",
    "model.one_former.num_object_queries=20",
    "model.backbone.swin.embed_dim=16",
    "model.backbone.swin.depths=[1, 1, 1, 1]",
    "model.backbone.swin.num_heads=[2, 2, 2, 2]",
    "model.backbone.swin.window_size=4",
    "model.text_encoder.width=32",
    "model.text_encoder.num_layers=1",
    "dataset.image_size=[128, 96]",
    "dataset.augmentation.train_crop_size=[64, 80]",
)


def spec(*words):
    return load_spec([], [*WORDS, *words], task="model-info").spec


@pytest.fixture
def quick(monkeypatch):
    """Sizes and states are told without a run of the network."""
    monkeypatch.setattr(Network, "flops", lambda self, size: dict.fromkeys(PARTS, 0))
    monkeypatch.setattr(Network, "inference_memory", lambda self, size, **options: 0)
    monkeypatch.setattr(Network, "training_memory", lambda self, size, **options: options["batch"])


def test_json_holds_every_cost(capsys):
    model_info.run(spec("dataset.train.batch_size=2", "train.precision=bf16"), json=True)
    info = json.loads(capsys.readouterr().out)
    assert list(info["parameters"]) == list(info["evaluation"]["flops"]) == list(PARTS)
    assert (info["evaluation"]["width"], info["evaluation"]["height"]) == (128, 96)
    training = info["training"]
    assert (training["width"], training["height"], training["batch_size"]) == (96, 64, 2)
    assert training["optimizer_state"] == 8 * sum(info["parameters"].values())
    assert training["precision"] == "bf16"
    recomputed, kept = training["memory"]
    assert recomputed["activation_checkpoint"] and not kept["activation_checkpoint"]
    assert 16 * sum(info["parameters"].values()) < recomputed["bytes"] < kept["bytes"]


def test_the_table_says_the_same(quick, capsys):
    model_info.run(spec())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("GFLOP of an image of 128 x 96")
    assert [line.split("  ")[0] for line in lines[1:7]] == [*(part.replace("_", " ") for part in PARTS), "all"]
    assert "fp32, activation checkpointing" in lines[-3] and "fp32, all activations kept" in lines[-2]
    assert lines[-1].startswith("  training is at 96 x 64, batch 1; AdamW holds")


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["dataset.image_size=500"], (512, 512)),
        (["dataset.image_size=null"], (800, 1088)),
        (["dataset.image_size=null", "dataset.augmentation.test_min_size=480"], (480, 640)),
        (["dataset.image_size=[100, 64]", "model.one_former.size_divisibility=4"], (64, 100)),
    ],
)
def test_the_size_is_that_of_evaluation(quick, words, size):
    info = model_info.model_info(spec(*words))
    assert (info.evaluation.height, info.evaluation.width) == size


@pytest.mark.parametrize(
    ("words", "copies"),
    [([], 2), (["train.optim.type=SGD"], 1), (["train.optim.type=SGD", "train.optim.momentum=0"], 0)],
)
def test_the_optimisers_state_counts(quick, words, copies):
    info = model_info.model_info(spec(*words))
    assert info.training.optimizer_state == 4 * copies * sum(info.parameters.values())
    assert {row.bytes for row in info.training.memory} == {info.training.optimizer_state + 1}


class Curious(nn.Module):
    """A backbone that looks at values while it runs."""

    def __init__(self):
        super().__init__()
        self.channels, self.strides = ({f"res{i}": value for i, value in enumerate(row, 2)} for row in ROWS)
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, 2**i, stride=2**i) for i in range(2, 6))

    def forward(self, image):
        if image.max().item() > 0:
            image = -image
        return {f"res{i}": conv(image) for i, conv in enumerate(self.convs, 2)}


ROWS = ((8, 8, 8, 8), (4, 8, 16, 32))


def test_a_backbone_that_looks_at_values_is_named(monkeypatch):
    monkeypatch.setattr(building, "_backbone", lambda section: Curious())
    with pytest.raises(OneFormerError, match=r"^model\.backbone\.type: swin does not run on shapes alone: "):
        model_info.run(spec())


def test_parts_that_do_not_fit_stay_an_error_of_the_spec():
    with pytest.raises(SpecError, match="common_stride: found 2"):
        model_info.run(spec("model.sem_seg_head.common_stride=2"))
