"""Ours and Hugging Face's model learn alike: one loss curve from the same weights, batches, texts and sample points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="the reference of the parity tests: `nox -s parity` installs it")

from parity.pair import LABELS, counterpart, criterion, points, texts

from oneformer_model import OneFormer, task_tokens
from oneformer_spec.tasks import TASKS, Task
from oneformer_train.loss.matcher import Target

STEPS, SIZE, EDGE = 20, 64, 24
LEARNING_RATE = 1e-4


class Step(NamedTuple):
    """Two images, a mask for each of `LABELS`, and the task that is learnt."""

    image: Tensor
    masks: list[Tensor]
    task: Task


def steps() -> list[Step]:
    """Squares in the colours of their classes on noise: something that 20 steps begin to learn."""
    drawn = torch.Generator().manual_seed(0)
    colours = torch.randn(5, 3, 1, 1, generator=drawn) * 2
    made = []
    for number in range(STEPS):
        image = torch.randn(2, 3, SIZE, SIZE, generator=drawn) * 0.2
        masks = []
        for picture, labels in zip(image, LABELS, strict=True):
            planes = torch.zeros(len(labels), SIZE, SIZE, dtype=torch.bool)
            for plane, label in zip(planes, labels.tolist(), strict=True):
                top, left = torch.randint(SIZE - EDGE, (2,), generator=drawn).tolist()
                planes[:, top : top + EDGE, left : left + EDGE] = False  # the later square lies on top
                plane[top : top + EDGE, left : left + EDGE] = True
                picture[:, plane] += colours[label][:, 0]
            masks.append(planes)
        made.append(Step(image, masks, TASKS[number % len(TASKS)]))
    return made


def curve(model: nn.Module, loss: Callable[[Step], Tensor]) -> list[float]:
    """The losses of training by AdamW without clipping."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    losses = []
    for step in steps():
        value = loss(step)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    return losses


def their_loss(model: Any, step: Step) -> Tensor:
    batch = texts(step.task)
    outputs = model(
        pixel_values=step.image,
        task_inputs=task_tokens(step.task, 2),
        text_inputs=batch.tokens[batch.index],
        mask_labels=[mask.float() for mask in step.masks],
        class_labels=list(LABELS),
    )
    loss: Tensor = outputs.loss.squeeze()
    return loss


def our_loss(model: OneFormer, step: Step) -> Tensor:
    prediction = model(step.image, task_tokens(step.task, 2), texts(step.task))
    targets = [Target(labels, masks) for labels, masks in zip(LABELS, step.masks, strict=True)]
    assert model.text_branch is not None
    terms = criterion()(prediction, targets, model.text_branch.logit_scale, draw=points)
    return terms["loss"]


def test_twenty_steps_have_one_loss_curve(
    hugging_face: Callable[..., Any],
    small_options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = hugging_face(training=True, **small_options)
    model = counterpart(reference, tmp_path)
    found = curve(model, lambda step: our_loss(model, step))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", lambda masks, count, two, **_: points([masks], count))
        expected = curve(reference, lambda step: their_loss(reference, step))
    deviations = [abs(here - there) / there for here, there in zip(found, expected, strict=True)]
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    assert sum(deviations) / STEPS < 0.01
    assert sum(found[-3:]) < 0.9 * sum(found[:3]), "nothing was learnt, so equal curves would say little"
    print(f"first step {deviations[0]:.1e}, mean {sum(deviations) / STEPS:.1e}, largest {max(deviations):.1e}")
