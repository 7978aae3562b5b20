"""The loss is the published one: matched queries pay for masks, the rest for not being "no object"."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from oneformer_model import TrainingPrediction
from oneformer_train.loss.criterion import Criterion, LossWeights, PointOptions, contrastive_loss, dice_loss
from oneformer_train.loss.matcher import Target
from oneformer_train.processes import group

CLASSES, QUERIES, CHANNELS = 3, 6, 4


def make_criterion(**changes: object) -> Criterion:
    options: dict[str, object] = {
        "num_classes": CLASSES,
        "weights": LossWeights(classes=2.0, mask=5.0, dice=5.0, contrastive=0.5),
        "points": PointOptions(num_points=64, oversample_ratio=3.0, importance_ratio=0.75),
        "no_object_weight": 0.1,
        "deep_supervision": True,
    }
    return Criterion(**(options | changes))  # type: ignore[arg-type]


def make_prediction(heads: int = 2, batch: int = 2) -> TrainingPrediction:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, requires_grad=True)

    return TrainingPrediction(
        class_logits=tuple(random(batch, QUERIES, CLASSES + 1) for _ in range(heads)),
        mask_embeddings=tuple(random(batch, QUERIES, CHANNELS) for _ in range(heads)),
        mask_features=random(batch, CHANNELS, 8, 8),
        queries=random(batch, QUERIES, CHANNELS),
        text_queries=random(batch, QUERIES, CHANNELS),
    )


def make_targets(*counts: int) -> list[Target]:
    return [Target(torch.randint(0, CLASSES, (n,)), torch.rand(n, 32, 32) > 0.5) for n in counts]


def test_every_output_of_every_head_gets_a_gradient() -> None:
    torch.manual_seed(0)
    prediction = make_prediction()
    terms = make_criterion()(prediction, make_targets(2, 1), torch.tensor(1.0))
    terms["loss"].backward()
    for part in prediction:
        for tensor in part if isinstance(part, tuple) else (part,):
            assert tensor.grad is not None
            assert tensor.grad.abs().sum() > 0


def test_terms_sum_to_the_loss_and_deep_supervision_adds_the_other_heads() -> None:
    torch.manual_seed(0)
    prediction, targets = make_prediction(heads=3), make_targets(2, 2)
    deep = make_criterion()(prediction, targets, torch.tensor(0.0))
    last = make_criterion(deep_supervision=False)(prediction, targets, torch.tensor(0.0))
    assert deep["loss"].item() == pytest.approx(sum(value.item() for name, value in deep.items() if name != "loss"))
    assert deep["class"] > last["class"]
    assert deep["mask"] > last["mask"]
    assert deep["contrastive"] == last["contrastive"]


def test_a_perfect_prediction_costs_almost_nothing() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, :16], masks[1, 16:] = True, True
    labels = torch.tensor([0, 2])
    class_logits = torch.full((1, QUERIES, CLASSES + 1), -20.0)
    class_logits[0, :, CLASSES] = 20.0
    class_logits[0, 1], class_logits[0, 4] = torch.tensor([20.0, -20, -20, -20]), torch.tensor([-20, -20, 20.0, -20])
    features = torch.zeros(1, CHANNELS, 32, 32)
    features[0, 0] = torch.where(masks[0], 40.0, -40.0)
    embeddings = torch.zeros(1, QUERIES, CHANNELS)
    embeddings[0, 1, 0], embeddings[0, 4, 0] = 1.0, -1.0
    queries = torch.randn(1, QUERIES, CHANNELS)
    prediction = TrainingPrediction((class_logits,), (embeddings,), features, queries, queries)
    # Points away from the picture's border, where outside counts as logit 0, and from the edge between the masks.
    inner = torch.rand(10, 256, 2) * 0.8 + 0.1
    inner[..., 1] += torch.where((inner[..., 1] - 0.5).abs() < 0.05, 0.1, 0.0)
    terms = make_criterion()(
        prediction, [Target(labels, masks)], torch.tensor(0.0), draw=lambda masks, points: inner[: sum(masks), :points]
    )
    assert terms["loss"].item() < 1e-3


def test_unmatched_queries_weigh_less() -> None:
    """With no target every query is "no object"; the weighted mean is the plain cross-entropy."""
    prediction = make_prediction(heads=1, batch=1)
    terms = make_criterion()(prediction, make_targets(0), torch.tensor(0.0))
    wanted = torch.full((QUERIES,), CLASSES)
    assert terms["class"].item() == pytest.approx(2.0 * F.cross_entropy(prediction.class_logits[0][0], wanted).item())
    assert terms["mask"].item() == terms["dice"].item() == 0.0
    terms["loss"].backward()  # an image without any target still trains


def test_the_divisor_of_masks_is_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One mask in the batches of two ranks is half a mask per rank; dividing by that would double its loss."""
    torch.manual_seed(0)
    prediction, targets, fixed = make_prediction(), make_targets(1, 0), torch.rand(20, 256, 2)

    def terms() -> dict[str, Tensor]:
        return make_criterion()(prediction, targets, torch.tensor(1.0), draw=lambda masks, n: fixed[: sum(masks), :n])

    alone = terms()
    monkeypatch.setattr(group, "mean", lambda values: values / 2)
    found = terms()
    assert found["mask"] == alone["mask"] > 0
    assert found["dice"] == alone["dice"] > 0


def test_class_loss_is_the_weighted_cross_entropy_of_the_matched_labels() -> None:
    torch.manual_seed(3)
    prediction, targets = make_prediction(heads=1, batch=1), make_targets(QUERIES)
    everything_matched = make_criterion()(prediction, targets, torch.tensor(0.0))["class"].item()
    logits = prediction.class_logits[0][0]
    # All queries are matched, so the loss is the mean over some assignment of all labels.
    from itertools import permutations

    possible = {
        round(2.0 * F.cross_entropy(logits, targets[0].labels[list(order)]).item(), 4)
        for order in permutations(range(QUERIES))
    }
    assert round(everything_matched, 4) in possible


def test_dice_loss_is_smoothed_by_one() -> None:
    logits, truth = torch.tensor([[50.0, -50.0]]), torch.tensor([[1.0, 1.0]])
    torch.testing.assert_close(dice_loss(logits, truth), torch.tensor([1 - 3 / 4]))


def test_contrastive_loss_prefers_an_images_own_texts() -> None:
    torch.manual_seed(0)
    queries = torch.randn(4, QUERIES, CHANNELS)
    scale = torch.tensor(math.log(1 / 0.07))
    own, shuffled = contrastive_loss(queries, queries, scale), contrastive_loss(queries, queries.roll(1, 0), scale)
    assert own < 0.05 < shuffled
    assert contrastive_loss(queries[:1], queries[1:2], scale) == 0.0  # nothing to tell apart


def test_contrastive_loss_is_the_sum_of_both_directions() -> None:
    queries, scale = torch.eye(2).unsqueeze(1), torch.tensor(math.log(3.0))  # (B, Q, D): two images, nothing in common
    one_way = math.log(math.exp(3.0) + 1.0) - 3.0
    assert contrastive_loss(queries, queries, scale).item() == pytest.approx(2 * one_way)


def test_contrastive_scale_is_capped_at_one_hundred() -> None:
    torch.manual_seed(0)
    queries, texts = torch.randn(3, QUERIES, CHANNELS), torch.randn(3, QUERIES, CHANNELS)
    capped, beyond = (contrastive_loss(queries, texts, torch.tensor(math.log(value))) for value in (100.0, 1e4))
    assert capped == beyond


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_and_matching_are_in_single_precision_under_autocast(dtype: torch.dtype) -> None:
    prediction, targets, fixed = make_prediction(), make_targets(3, 2), torch.rand(20, 256, 2)

    def terms() -> dict[str, Tensor]:
        return make_criterion()(prediction, targets, torch.tensor(1.0), draw=lambda masks, n: fixed[: sum(masks), :n])

    expected = terms()
    with torch.autocast("cpu", dtype=dtype):
        found = terms()
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert all(torch.equal(found[name], expected[name]) for name in expected)  # one 16-bit product would show
