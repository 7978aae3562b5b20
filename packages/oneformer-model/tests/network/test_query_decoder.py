import torch
import torch.nn.functional as F

from oneformer_model.network.query_decoder import _shrink, _visible


def test_queries_look_inside_their_mask():
    """Shrinking the features once equals shrinking every mask, as published."""
    embedding, features = torch.randn(2, 6, 8), torch.randn(2, 8, 16, 20)
    masks = torch.einsum("bqd,bdhw->bqhw", embedding, features)
    small = F.interpolate(masks, size=(4, 5), mode="bilinear", align_corners=False).flatten(2)
    hidden = small.sigmoid() < 0.5
    hidden[hidden.all(dim=-1)] = False
    assert torch.equal(_visible(embedding, _shrink(features, torch.empty(2, 1, 4, 5))), ~hidden[:, None])


def test_a_query_with_an_empty_mask_looks_everywhere():
    guide = torch.ones(1, 1, 12)
    visible = _visible(torch.tensor([[[-1.0], [1.0]]]), guide)
    assert visible.shape == (1, 1, 2, 12)
    assert visible.all()
    guide[..., 5:] = -1
    assert _visible(torch.tensor([[[1.0]]]), guide)[0, 0, 0].tolist() == [True] * 5 + [False] * 7


def heads(model, every_head):
    pixels = model.pixel_decoder(model.backbone(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))))
    task = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
    return model.query_decoder(pixels.levels, pixels.mask_features, task, every_head=every_head)


def test_training_returns_every_head_and_inference_the_same_last_one(model):
    with torch.no_grad():
        all_heads, last = heads(model, every_head=True), heads(model, every_head=False)
    assert (len(all_heads.class_logits), len(all_heads.mask_embeddings)) == (3, 3)
    assert (len(last.class_logits), len(last.mask_embeddings)) == (1, 1)
    assert torch.equal(all_heads.class_logits[-1], last.class_logits[0])
    assert torch.equal(all_heads.mask_embeddings[-1], last.mask_embeddings[0])


def test_the_last_query_starts_as_the_task(model):
    task = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(heads(model, every_head=False).queries[:, -1], model.query_decoder.norm(task))
