"""What holds for every backbone that is registered here, each in its smallest form."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from oneformer_model import task_tokens
from oneformer_model.backbones import Staged
from oneformer_model.build import build
from oneformer_model.onnx_export.graph import Shape, write_graph
from oneformer_model.testing import check_backbone
from oneformer_spec.plugins.registry import declarations, resolve
from oneformer_spec.schema import BackboneSection
from oneformer_spec.schema.tree import plain

STAGES = {"embed_dim": 16, "depths": (2, 1, 1, 1), "num_heads": (2, 2, 4, 4), "drop_path_rate": 0.1}
PLAIN = {"depth": 2, "embed_dim": 24, "num_heads": 2}
TINY = {
    "swin": {"swin": STAGES | {"window_size": 4}},
    "dinat": {"dinat": STAGES | {"kernel_size": 3, "dilations": ((1, 2), (2,), (1,), (1,))}},
    "efficientvit": {"efficientvit-b": {"variant": "b0"}, "efficientvit-l": {"variant": "l1"}},
    "timm": {
        "timm-convnext": {"name": "convnext_atto"},
        "timm-resnet": {"name": "resnet10t"},
        "timm-dinov2": {"name": "vit_small_patch14_dinov2", "options": PLAIN},
        "timm-dinov3": {"name": "vit_small_patch16_dinov3", "options": PLAIN},
    },
}
"""Options by name of a backbone and of a case."""
CASES = [pytest.param(name, options, id=case) for name, cases in TINY.items() for case, options in cases.items()]
SMALL_CASES = [case for case in CASES if case.id != "efficientvit-l"]  # a graph of 150 MB takes its time


@pytest.fixture
def with_backbone(section):
    """The tiny network's section with another backbone."""

    def make(name, options, **fields):
        section_type = resolve(declarations("backbone")[name].options)
        backbone = BackboneSection(type=name, sections={name: section_type(**options)}, **fields)
        return replace(section(), backbone=backbone)

    return make


def test_every_backbone_is_tested_here():
    assert sorted(TINY) == sorted(declarations("backbone"))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_it_keeps_the_contract(name, options):
    check_backbone(declarations("backbone")[name], **options)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_network_with_it_learns_without_its_frozen_parts_and_recomputes_the_rest(with_backbone, name, options):
    model = build(with_backbone(name, options, freeze_at=2), training=True, activation_checkpoint=True).train()
    assert isinstance(model.backbone, Staged)
    parts = model.backbone.stem_and_stages()
    frozen = {parameter for part in parts[:2] for parameter in part.parameters()}
    assert frozen
    statistics = [(value, value.clone()) for part in parts[:2] for value in part.buffers()]
    layer = [module for module in parts[-1].modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    calls = []
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    prediction = model(torch.randn(2, 3, 61, 83), task_tokens("panoptic", 2))
    (prediction.class_logits.square().mean() + prediction.mask_logits.square().mean()).backward()
    for parameter in model.backbone.parameters():
        assert (parameter.grad is None) == (parameter in frozen)
    assert all(torch.equal(value, before) for value, before in statistics)
    assert len(calls) == 2, "activations are not recomputed"


@pytest.mark.parametrize(("name", "options"), SMALL_CASES)
def test_a_network_with_it_becomes_an_onnx_graph(with_backbone, manifest, name, options):
    section = with_backbone(name, options)
    model = build(section, training=False).eval()
    # write_graph compares the graph's logits with the network's
    write_graph(
        model, replace(manifest, model=plain(section)), Shape(None, 64, 96), opset=17, device=torch.device("cpu")
    )
