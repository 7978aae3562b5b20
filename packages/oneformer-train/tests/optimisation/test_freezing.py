"""What `train.freeze` names is found under many names, gets no gradient, and never trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oneformer_model import OneFormer
from oneformer_model.build import build
from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import load_spec
from oneformer_train.optimisation.freezing import ALIASES, freeze, freezing
from oneformer_train.optimisation.optimizer import parameter_groups

SMALL = (
    *("model.backbone.swin.embed_dim=8", "model.backbone.swin.depths=[1,1,1,1]"),
    *("model.backbone.swin.num_heads=[1,1,1,1]", "model.sem_seg_head.convs_dim=32", "model.sem_seg_head.mask_dim=16"),
    *("model.sem_seg_head.transformer_enc_layers=1", "model.one_former.hidden_dim=32", "model.one_former.nheads=2"),
    *("model.one_former.dim_feedforward=32", "model.one_former.dec_layers=3", "model.text_encoder.width=8"),
    *("model.one_former.dropout=0.1", "model.text_encoder.num_layers=1"),
)


@pytest.fixture
def model() -> OneFormer:
    return build(load_spec([], SMALL).spec.model, training=True)


def frozen(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def below(model: nn.Module, *paths: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(paths)}


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("backbone", ("backbone.",)),
        ("backbone.stages.1", ("backbone.stages.1.",)),
        ("backbone.layers.1.blocks", ("backbone.stages.1.blocks.",)),
        ("backbone.pat", ("backbone.patch_embedding.",)),
        ("model.backbone.norms", ("backbone.norms.",)),
        ("transformer.encoder", ("pixel_decoder.layers.",)),
        ("transformer.encoder.0.norm", ("pixel_decoder.layers.0.norm.",)),
        ("input_proj", ("pixel_decoder.input_projections.",)),
        ("sem_seg_head", ("pixel_decoder.", "query_decoder.")),
        ("sem_seg_head.predictor.class_head", ("query_decoder.class_head.",)),
        ("text_encoder", ("text_branch.encoder.",)),
        ("pixel_decoder.level_embedding", ("pixel_decoder.level_embedding",)),
        ("query_decoder.l", ("query_decoder.layers.", "query_decoder.level_embedding.")),
    ],
)
def test_a_name_freezes_what_it_says_and_nothing_else(model: OneFormer, name: str, paths: tuple[str, ...]) -> None:
    freeze(model, [name])
    assert frozen(model) == below(model, *paths) != set()


def test_every_alias_names_parts_of_the_network(model: OneFormer) -> None:
    for alias in ALIASES:
        model.requires_grad_(True)
        assert freeze(model, [alias]), alias
        assert frozen(model), alias


def test_frozen_modules_stay_in_eval_mode_and_the_rest_trains(model: OneFormer) -> None:
    freeze(model, ["backbone", "transformer.decoder"])
    model.eval()
    model.train()
    modes = {name: module.training for name, module in model.named_modules()}
    assert not any(mode for name, mode in modes.items() if name.startswith(("backbone", "query_decoder.layers")))
    assert modes["pixel_decoder.layers.0.dropout"]
    assert modes["query_decoder.norm"]


def test_frozen_parameters_are_in_no_group_of_the_optimiser(model: OneFormer) -> None:
    freeze(model, ["backbone"])
    groups = parameter_groups(model, load_spec([], SMALL).spec.train.optim)
    held = {id(parameter) for group in groups for parameter in group["params"]}  # type: ignore[attr-defined]
    assert held == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert len(held) < len(list(model.parameters()))


def test_an_unknown_name_lists_what_there_is(model: OneFormer) -> None:
    with pytest.raises(SpecError) as caught:
        freeze(model, ["backbone", "query_decoder.class_hed"])
    assert str(caught.value) == (
        "train.freeze: query_decoder.class_hed: no part of the network is called so; it has backbone, pixel_decoder, "
        "query_decoder, task_encoder, text_branch; did you mean query_decoder.class_head, "
        "query_decoder.class_head.bias, query_decoder.mask_head, query_decoder.class_head.weight"
    )


def test_freezing_everything_is_an_error(model: OneFormer) -> None:
    with pytest.raises(SpecError, match=r"^train\.freeze: leaves nothing to train$"):
        freeze(model, ["backbone", "sem_seg_head", "task_mlp", "text_branch"])


def test_the_summary_counts(model: OneFormer) -> None:
    found = freeze(model, ["task_mlp", "text_projector"])
    count = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert freezing(model, found) == (
        f"train.freeze: task_encoder, text_branch.projector: {count:,} of {total:,} parameters are not trained"
    )


def test_no_gradient_reaches_what_is_frozen(model: OneFormer) -> None:
    freeze(model, ["backbone"])
    model.train()
    prediction = model(torch.randn(1, 3, 64, 64), torch.zeros(1, 77))
    (prediction.class_logits.sum() + prediction.mask_logits.sum()).backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.pixel_decoder.mask_projection.weight.grad is not None  # type: ignore[union-attr]
