"""The matcher finds the cheapest assignment under the stated costs."""

from itertools import permutations

import torch
import torch.nn.functional as F

from oneformer_train.loss.matcher import CostWeights, match, pairwise_cross_entropy, pairwise_dice


def test_pairwise_cross_entropy_is_the_mean_over_points_of_every_pair() -> None:
    torch.manual_seed(0)
    logits, targets = 5 * torch.randn(4, 30), (torch.rand(3, 30) > 0.5).float()
    expected = torch.stack(
        [torch.stack([F.binary_cross_entropy_with_logits(query, target) for target in targets]) for query in logits]
    )
    torch.testing.assert_close(pairwise_cross_entropy(logits, targets), expected)


def test_pairwise_dice_is_zero_for_a_perfect_mask_and_one_half_for_two_thirds_missed() -> None:
    logits = torch.tensor([[50.0, 50.0, 50.0, -50.0]])
    same, third = torch.tensor([[1.0, 1.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert pairwise_dice(logits, same).item() == 0.0
    # 1 - (2 * 1 + 1) / (3 + 1 + 1)
    torch.testing.assert_close(pairwise_dice(logits, third), torch.tensor([[0.4]]))


def test_the_assignment_is_the_cheapest_of_all() -> None:
    torch.manual_seed(1)
    weights = CostWeights(classes=2.0, mask=5.0, dice=5.0)
    for _ in range(20):
        class_logits, point_logits = torch.randn(5, 4), 3 * torch.randn(5, 40)
        labels, truth = torch.randint(0, 3, (3,)), (torch.rand(3, 40) > 0.5).float()
        cost = (
            -2.0 * class_logits.softmax(-1)[:, labels]
            + 5.0 * pairwise_cross_entropy(point_logits, truth)
            + 5.0 * pairwise_dice(point_logits, truth)
        )
        queries, targets = match(class_logits, point_logits, labels, truth, weights)
        assert sorted(targets.tolist()) == [0, 1, 2]
        cheapest = min(sum(cost[q, t].item() for t, q in enumerate(chosen)) for chosen in permutations(range(5), 3))
        assert abs(cost[queries, targets].sum().item() - cheapest) < 1e-5


def test_logits_that_are_no_numbers_are_matched_somehow() -> None:
    logits = torch.full((4, 3), float("nan"))
    weights = CostWeights(classes=2.0, mask=5.0, dice=5.0)
    points, truth = torch.full((4, 30), float("inf")), torch.ones(2, 30)
    queries, targets = match(logits, points, torch.tensor([0, 1]), truth, weights)
    assert len({*queries.tolist()}) == 2
    assert sorted(targets.tolist()) == [0, 1]
