import pytest
import torch

from oneformer_model import Texts
from oneformer_model.network.text_branch import TextBranch, TextEncoder

START, END = 49406, 49407


def tokens(*texts):
    rows = torch.zeros(len(texts), 10, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text) + 2] = torch.tensor([START, *text, END])
    return rows


def encoder(causal=True):
    torch.manual_seed(0)
    return TextEncoder(width=32, num_layers=2, vocab_size=49408, context_length=10, causal=causal)


@pytest.mark.parametrize("causal", [True, False])
def test_what_follows_the_end_matters_only_without_causality(causal):
    plain = tokens([5, 6, 7])
    changed = plain.clone()
    changed[:, 6:] = 9
    same = torch.allclose(encoder(causal)(plain), encoder(causal)(changed), atol=1e-6)
    assert same == causal


def test_texts_may_be_cut_behind_their_end():
    long = tokens([5, 6, 7], [8])
    torch.testing.assert_close(encoder()(long), encoder()(long[:, :5]))


def test_different_texts_are_encoded_once_and_placed_by_index():
    branch = TextBranch(encoder(), width=32, dim=16, num_layers=2, num_context=3, temperature=0.07)
    unique = tokens([5, 6], [7], [8, 9, 10])
    index = torch.tensor([[0, 1, 1, 2], [2, 2, 0, 1]])
    queries = branch(Texts(unique, index))
    assert queries.shape == (2, 4 + 3, 16)
    one_by_one = branch.projector(branch.encoder(unique[index.flatten()])).view(2, 4, 16)
    torch.testing.assert_close(queries[:, :4], one_by_one)
    torch.testing.assert_close(queries[1, 4:], branch.context.weight)


def test_the_temperature_is_learned():
    branch = TextBranch(encoder(), width=32, dim=16, num_layers=1, num_context=0, temperature=0.07)
    assert branch.logit_scale.requires_grad
    assert branch.logit_scale.exp().item() == pytest.approx(1 / 0.07)
