"""Costs from shapes: they agree with what the network really is, does and takes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oneformer_model import task_tokens
from oneformer_model.build import build
from oneformer_model.commands.model_info import PARTS, Network
from oneformer_spec.loading.load import load_spec
from oneformer_spec.tasks import Task

FACTOR = 1.3  # how far an estimate of memory may be off, either way


@pytest.fixture
def network(section):
    return Network(section(), 77, 77)


def test_parameters_are_those_of_the_network(network, training_model):
    counted = network.parameters()
    assert list(counted) == list(PARTS)
    assert sum(counted.values()) == sum(parameter.numel() for parameter in training_model.parameters())
    assert counted["task_encoder"] == 77 * 32 + 32 + 32 * 32 + 32


def test_frozen_parts_are_not_trained(section):
    network = Network(section(backbone={"freeze_at": 5}), 77, 77)
    assert network.parameters(trained=True) == network.parameters() | {"backbone": 4 * (16 + 32 + 64 + 128) // 2}


def test_operations_are_two_per_multiply_add(network):
    flops = network.flops((128, 128))
    assert flops["task_encoder"] == 2 * (77 * 32 + 32 * 32)
    assert flops["text_branch"] == 0
    assert network.flops((256, 256))["backbone"] == 4 * flops["backbone"]  # windows: linear in the area


def test_the_masks_belong_to_the_query_decoder(section):
    """12 queries more: their products with mask features of 16 x 24 pixels and 32 channels, and all their layers."""
    few, many = (Network(section(one_former={"num_object_queries": n}), 77, 77).flops((64, 96)) for n in (12, 24))
    assert many["query_decoder"] - few["query_decoder"] > 2 * 12 * 16 * 24 * 32
    assert {**many, "query_decoder": 0} == {**few, "query_decoder": 0}


def test_memory_grows_with_what_is_kept(network):
    def memory(**changes):
        return network.training_memory((64, 64), **{"precision": "fp32", "activation_checkpoint": False} | changes)

    kept = memory()
    assert memory(activation_checkpoint=True) < kept < memory(batch=2)
    assert memory(precision="bf16") < kept
    assert network.inference_memory((64, 64), precision="fp32") < kept


def test_nothing_fake_stays_behind(section, network):
    model, inputs = build(section(), training=False).eval(), (torch.randn(1, 3, 72, 72), task_tokens(Task.SEMANTIC))
    network.flops((72, 72))
    network.inference_memory((72, 72), precision="fp32")
    with torch.inference_mode():
        assert type(model(*inputs).mask_logits) is torch.Tensor


WORDS = (
    "model.sem_seg_head.num_classes=3",
    "model.sem_seg_head.convs_dim=64",
    "model.sem_seg_head.transformer_enc_layers=3",
    "model.one_former.hidden_dim=64",
    "model.one_former.dec_layers=4",
    "model.backbone.swin.embed_dim=48",
    "model.backbone.swin.depths=[2, 2, 2, 2]",
    "model.backbone.swin.num_heads=[2, 4, 8, 16]",
    "model.backbone.swin.window_size=8",
)
MEASURED = """
import sys
import torch
from oneformer_model import Texts
from oneformer_model.build import build
from oneformer_model.network.deformable_attention import DeformableAttention, sample_grids
from oneformer_spec.loading.load import load_spec

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def step(size):
    texts = Texts(torch.zeros(10, 77, dtype=torch.int64), torch.zeros(1, 134, dtype=torch.int64))
    prediction = model(torch.randn(1, 3, *size), torch.zeros(1, 77), texts)
    outputs = [*prediction.class_logits, *prediction.mask_embeddings, *prediction[2:]]
    del prediction
    torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

torch.set_num_threads(1)
size, recompute, *words = eval(sys.argv[1])
model = build(load_spec([], words).spec.model, training=True, activation_checkpoint=recompute)
for module in model.modules():
    if isinstance(module, DeformableAttention):
        module.sampler = sample_grids
step((64, 64))  # loads what is loaded once
model.zero_grad()
before = status("VmRSS") - sum(4 * parameter.numel() for parameter in model.parameters())
open("/proc/self/clear_refs", "w").write("5")
step(size)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc")
def test_a_training_step_takes_the_memory_that_was_estimated():
    size = (256, 384)
    network = Network(load_spec([], WORDS).spec.model, 77, 77)
    words = [sys.executable, "-c", MEASURED]
    cases = [(size, recompute, *WORDS) for recompute in (False, True)]
    steps = [subprocess.Popen([*words, repr(case)], stdout=subprocess.PIPE, text=True) for case in cases]
    for case, step in zip(cases, steps, strict=True):
        estimated = network.training_memory(size, precision="fp32", activation_checkpoint=case[1])
        ratio = int(step.communicate(timeout=300)[0]) / estimated
        assert 1 / FACTOR <= ratio <= FACTOR, f"{ratio:.2f} of {estimated / 2**20:.0f} MiB, recompute={case[1]}"
