import pytest
import torch

from oneformer_model.network.layers import Dropout, MultiHeadAttention, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_elements_are_dropped_at_the_rate_and_the_mean_stays(rate):
    torch.manual_seed(0)
    x = torch.ones(4, 250_001)
    dropped = dropout(x, rate)
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=2e-3)
    assert dropped.mean().item() == pytest.approx(1.0, abs=5e-3)
    assert dropped.max().item() == pytest.approx(1 / (1 - rate), rel=1e-4)


def test_elements_that_share_a_random_number_are_independent():
    torch.manual_seed(0)
    kept = (dropout(torch.ones(400_000), 0.5) != 0).float().view(-1, 4)
    torch.testing.assert_close(torch.corrcoef(kept.T), torch.eye(4), rtol=0, atol=0.02)


def test_gradients_reach_what_was_kept():
    x = torch.randn(1000, requires_grad=True)
    dropped = dropout(x, 0.3)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, (dropped / x).detach())


def test_the_seed_decides():
    x = torch.randn(100)
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(dropout(x, 0.5))
    assert torch.equal(*results)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_none_and_all(rate):
    assert torch.equal(dropout(torch.ones(8), rate), torch.full((8,), 1.0 - rate))


def test_inference_drops_nothing():
    x = torch.randn(100)
    assert Dropout(0.5).eval()(x) is x


def test_attention_with_dropout_is_attention_on_average():
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2, dropout=0.2)
    query, key, value = torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    with torch.no_grad():
        expected = attention.eval()(query, key, value)
        attention.train()
        mean = torch.stack([attention(query, key, value) for _ in range(4000)]).mean(dim=0)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.02)
