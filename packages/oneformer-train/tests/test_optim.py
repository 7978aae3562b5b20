"""Parameter groups: who learns at which rate, and who decays."""

from dataclasses import replace

import torch
from torch import nn

from oneformer_spec.schema import Optim
from oneformer_train.optim import optimizer, parameter_groups


class Small(nn.Module):
    """One of everything that is treated on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"linear": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})
        self.backbone.register_parameter("relative_position_bias", nn.Parameter(torch.zeros(3, 2)))
        self.backbone.register_parameter("pos_embed", nn.Parameter(torch.zeros(3, 2)))
        self.query_embed = nn.Embedding(4, 2)
        self.linear = nn.Linear(2, 2)
        self.group_norm = nn.GroupNorm(1, 2)


OPTIONS = replace(Optim(), lr=0.5, backbone_multiplier=0.1, weight_decay=0.3, momentum=0.8)


def test_four_groups_hold_every_parameter_once() -> None:
    model = Small()
    groups = parameter_groups(model, OPTIONS)
    held = [parameter for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    rates = {group["name"]: (group["lr"], group["weight_decay"], len(group["params"])) for group in groups}  # type: ignore[arg-type]
    assert rates == {
        "backbone": (0.05, 0.3, 2),
        "backbone_no_decay": (0.05, 0.0, 4),
        "head": (0.5, 0.3, 2),
        "head_no_decay": (0.5, 0.0, 3),
    }


def test_frozen_parameters_are_left_out() -> None:
    model = Small()
    model.backbone.requires_grad_(False)
    assert {group["name"] for group in parameter_groups(model, OPTIONS)} == {"head", "head_no_decay"}


def test_momentum_is_the_momentum_of_sgd_and_beta1_of_adamw() -> None:
    assert optimizer(Small(), replace(OPTIONS, type="SGD")).param_groups[0]["momentum"] == 0.8
    assert optimizer(Small(), replace(OPTIONS, type="AdamW")).param_groups[0]["betas"] == (0.8, 0.999)
