"""Our losses and gradients are Hugging Face's, on the same weights, images, texts and sample points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="the reference of the parity tests: `nox -s parity` installs it")

from parity.pair import LABELS, counterpart, criterion, points, texts

from oneformer_model import OneFormer, task_tokens
from oneformer_model.adapters.huggingface import IN_MEMORY
from oneformer_model.network import query_decoder
from oneformer_spec.tasks import TASKS, Task
from oneformer_train.loss.matcher import Target

SIZE = 60, 83
SEED = 1  # with 0 two queries cost the same for a mask, up to rounding, and either side matches another one
TERMS = {"class": "cross_entropy", "mask": "mask", "dice": "dice", "contrastive": "contrastive"}


@dataclass(frozen=True)
class Side:
    """What one implementation made of a batch."""

    terms: dict[str, float]
    gradients: dict[str, Tensor]
    visible: list[Tensor]  # (B, Q, hw) per decoder layer: where each query may look


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in model.named_parameters()
    }


def theirs(model: Any, image: Tensor, masks: list[Tensor], task: Task, patch: pytest.MonkeyPatch) -> Side:
    terms: dict[str, float] = {}
    seen: list[Tensor] = []
    get_loss_dict = model.get_loss_dict
    decoder = model.model.transformer_module.decoder
    predict = decoder.forward_prediction_heads

    def spy_terms(*args: Any, **kwargs: Any) -> Any:
        found = get_loss_dict(*args, **kwargs)
        for ours, their_name in TERMS.items():
            terms[ours] = sum(value.item() for name, value in found.items() if f"loss_{their_name}" in name)
        return found

    def spy_attention(*args: Any, **kwargs: Any) -> Any:
        outputs = predict(*args, **kwargs)
        hidden = outputs[-1].unflatten(0, (2, -1))[:, 0]  # (B * heads, Q, hw), True is hidden, alike for all heads
        seen.append(~hidden | hidden.all(-1, keepdim=True))
        return outputs

    batch = texts(task)
    with patch.context() as spies:
        spies.setattr(model, "get_loss_dict", spy_terms)
        spies.setattr(decoder, "forward_prediction_heads", spy_attention)
        spies.setattr(torch, "rand", lambda masks, count, two, **_: points([masks], count))
        outputs = model(
            pixel_values=image,
            task_inputs=task_tokens(task, 2),
            text_inputs=batch.tokens[batch.index],
            mask_labels=[mask.float() for mask in masks],
            class_labels=list(LABELS),
        )
        outputs.loss.squeeze().backward()
    terms["loss"] = outputs.loss.item()
    return Side(terms, IN_MEMORY.to_ours(gradients(model)), seen[:-1])  # the last head guides no layer


def ours(model: OneFormer, image: Tensor, masks: list[Tensor], task: Task, patch: pytest.MonkeyPatch) -> Side:
    seen: list[Tensor] = []
    visible = query_decoder._visible

    def spy(*args: Tensor) -> Tensor:
        seen.append(visible(*args))
        return seen[-1]

    with patch.context() as spies:
        spies.setattr(query_decoder, "_visible", spy)
        prediction = model(image, task_tokens(task, 2), texts(task))
    targets = [Target(labels, mask) for labels, mask in zip(LABELS, masks, strict=True)]
    assert model.text_branch is not None
    terms = criterion()(prediction, targets, model.text_branch.logit_scale, draw=points)
    terms["loss"].backward()
    return Side({name: value.item() for name, value in terms.items()}, gradients(model), [x[:, 0] for x in seen])


@pytest.fixture(params=TASKS)
def sides(
    request: pytest.FixtureRequest,
    hugging_face: Callable[..., Any],
    small_options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Side, Side]:
    """Both sides of one batch."""
    reference = hugging_face(training=True, **small_options)
    model = counterpart(reference, tmp_path)
    drawn = torch.Generator().manual_seed(SEED)
    image = torch.randn(2, 3, *SIZE, generator=drawn)
    masks = [torch.randn(count, *SIZE, generator=drawn) > 0.3 for count in map(len, LABELS)]
    task = request.param
    return ours(model, image, masks, task, monkeypatch), theirs(reference, image, masks, task, monkeypatch)


def test_losses_and_gradients_are_equal(sides: tuple[Side, Side]) -> None:
    found, expected = sides
    assert len(found.visible) == len(expected.visible) == 4
    for here, there in zip(found.visible, expected.visible, strict=True):
        assert torch.equal(here, there), "an attention bit differs, so nothing below need agree: choose another seed"
    assert found.terms == pytest.approx(expected.terms, rel=1e-4)
    assert found.gradients.keys() == expected.gradients.keys()
    largest = max(value.norm() for value in expected.gradients.values())
    far = [
        f"{name}: {(found.gradients[name] - value).norm():.2e} of {value.norm():.2e}"
        for name, value in expected.gradients.items()
        if (found.gradients[name] - value).norm() > 1e-3 * value.norm() + 1e-6 * largest
    ]
    assert far == []
