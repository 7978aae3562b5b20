import pytest
import torch
from torch import nn

from oneformer_model.network.layers import (
    ClassTransformer,
    CrossAttentionLayer,
    FeedForwardLayer,
    MultiHeadAttention,
    SelfAttentionLayer,
)

DIM, HEADS = 16, 4


def torchs(attention):
    """torch's own attention with the same weights."""
    other = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        other.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        other.out_proj.weight.copy_(attention.output.weight)
        other.out_proj.bias.copy_(attention.output.bias)
    return other


@pytest.fixture
def attention():
    attention = MultiHeadAttention(DIM, HEADS)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    return attention


def test_attention_equals_torchs(attention):
    query, key, value = torch.randn(2, 5, DIM), torch.randn(2, 7, DIM), torch.randn(2, 7, DIM)
    expected, _ = torchs(attention)(query, key, value)
    torch.testing.assert_close(attention(query, key, value), expected, rtol=0, atol=1e-5)


def test_masked_attention_equals_torchs(attention):
    query, key = torch.randn(2, 5, DIM), torch.randn(2, 7, DIM)
    visible = torch.rand(2, 1, 5, 7) > 0.5
    visible[..., 0] = True
    hidden = (~visible).expand(-1, HEADS, -1, -1).flatten(0, 1)
    expected, _ = torchs(attention)(query, key, key, attn_mask=hidden)
    torch.testing.assert_close(attention(query, key, key, mask=visible), expected, rtol=0, atol=1e-5)


def test_keys_of_one_sample_serve_the_batch(attention):
    query, key = torch.randn(3, 5, DIM), torch.randn(1, 7, DIM)
    expected = attention(query, key.expand(3, -1, -1), key.expand(3, -1, -1))
    torch.testing.assert_close(attention(query, key, key), expected)


def test_causal_attention_sees_no_later_token(attention):
    x = torch.randn(1, 6, DIM)
    y = x.clone()
    y[:, 4:] = 0
    before, after = attention(x, x, x, causal=True), attention(y, y, y, causal=True)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_fresh_attention_is_drawn_like_one_matrix():
    attention = MultiHeadAttention(64, HEADS)
    assert attention.query.weight.abs().max() <= (6 / (4 * 64)) ** 0.5
    assert attention.output.weight.abs().max() > (6 / (4 * 64)) ** 0.5


@pytest.mark.parametrize("pre_norm", [False, True])
def test_norms_stand_before_or_after_the_branch(pre_norm):
    x, position, other = torch.randn(2, 5, DIM) * 3, torch.randn(5, DIM), torch.randn(2, 7, DIM)
    layers = [
        (SelfAttentionLayer(DIM, HEADS, pre_norm=pre_norm), (position,)),
        (CrossAttentionLayer(DIM, HEADS, pre_norm=pre_norm), (position, other, other)),
        (FeedForwardLayer(DIM, 32, pre_norm=pre_norm), ()),
    ]
    for layer, inputs in layers:
        normalised = torch.allclose(layer(x, *inputs).mean(dim=-1), torch.zeros(2, 5), atol=1e-5)
        assert normalised != pre_norm


@pytest.mark.parametrize(("encoder_layers", "pre_norm"), [(0, False), (0, True), (2, False), (1, True)])
def test_the_class_transformer_starts_every_query(encoder_layers, pre_norm):
    transformer = ClassTransformer(
        DIM,
        num_heads=HEADS,
        hidden=32,
        encoder_layers=encoder_layers,
        decoder_layers=2,
        dropout=0.0,
        pre_norm=pre_norm,
    )
    task = torch.randn(2, DIM)
    arguments = torch.randn(12, DIM), torch.randn(2, 12, DIM), torch.randn(5, DIM)
    started = transformer(*arguments, task)
    assert started.shape == (2, 5, DIM)
    assert not torch.allclose(started, transformer(*arguments, -task), atol=1e-3)
    assert (len(transformer.encoder), len(transformer.decoder)) == (encoder_layers, 2)
