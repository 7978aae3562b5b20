"""Parameter groups: who learns at which rate, and who decays."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from oneformer_spec.errors import CheckpointError
from oneformer_spec.schema import Optim, TrainSection
from oneformer_train.module import TrainingModule
from oneformer_train.optimisation.optimizer import Trained, optimizer, parameter_groups, take_up


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


def test_gradients_that_come_scaled_are_not_unscaled_within_the_step() -> None:
    """Clipping, which comes before the step, would see them scaled."""
    assert optimizer(Small(), OPTIONS).param_groups[0]["fused"]
    assert not getattr(optimizer(Small(), OPTIONS, scaled=True), "_step_supports_amp_scaling", False)


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_the_specs_settings_count_after_a_checkpoint(kind: str) -> None:
    saved = optimizer(Small(), replace(OPTIONS, type=kind, lr=9.0, weight_decay=0.9, momentum=0.9))
    model, options = Small(), replace(OPTIONS, type=kind)
    resumed, fresh = optimizer(model, options), optimizer(model, options)
    resumed.load_state_dict(saved.state_dict())
    assert resumed.param_groups[1]["weight_decay"] == 0.9
    assert take_up(resumed, model, options) == [0.5, 0.5, 0.05, 0.05]
    for name in ("weight_decay", "betas" if kind == "AdamW" else "momentum"):
        assert [group[name] for group in resumed.param_groups] == [group[name] for group in fresh.param_groups]


def test_the_state_of_another_optimiser_is_refused() -> None:
    model = Small()
    saved = Trained.of(model, OPTIONS).plain()
    Trained.of(model, OPTIONS).check(saved, "x.pth")
    with pytest.raises(CheckpointError, match=r"^x\.pth: its run was trained by AdamW, train\.optim\.type is SGD"):
        Trained.of(model, replace(OPTIONS, type="SGD")).check(saved, "x.pth")
    model.linear.requires_grad_(False)
    with pytest.raises(CheckpointError, match=r"other parameters \(2 differ, such as linear\.bias\).*train\.freeze"):
        Trained.of(model, OPTIONS).check(saved, "x.pth")


GRADIENT = torch.tensor([3.0, 4.0])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"clip_grad_norm": 1.0}, [0.6, 0.8]),
        ({"clip_grad_norm": 10.0}, [3.0, 4.0]),
        ({"clip_grad_norm": 1.0, "clip_grad_norm_type": "inf"}, [0.75, 1.0]),
        ({"clip_grad_norm": 1.0, "clip_grad_norm_type": 1.0}, [3 / 7, 4 / 7]),
        ({"clip_grad_norm": 3.5, "clip_grad_type": "value"}, [3.0, 3.5]),
        ({"clip_grad_norm": 1.0, "clip_grad_type": "none"}, [3.0, 4.0]),
        ({"clip_grad_norm": 0.0}, [3.0, 4.0]),
    ],
)
def test_gradients_are_clipped_as_the_spec_says(fields: dict[str, object], expected: list[float]) -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = GRADIENT.clone()
    options = replace(TrainSection(), **fields)  # type: ignore[arg-type]
    module = SimpleNamespace(options=options, trainer=SimpleNamespace(scaler=None), losses={}, gradient_norm=None)
    built = torch.optim.SGD([parameter], lr=1.0)
    TrainingModule.configure_gradient_clipping(module, built)  # type: ignore[arg-type]
    torch.testing.assert_close(parameter.grad, torch.tensor(expected))
