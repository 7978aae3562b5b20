import copy
import gzip
import json
from math import ceil, prod
from pathlib import Path

import pytest
import torch

from oneformer_model import Prediction, Texts, TrainingPrediction, task_tokens
from oneformer_model.build import build
from oneformer_spec.schema import BackboneSection, ModelSection, SwinOptions
from oneformer_spec.tasks import TASKS, Task

QUERIES, CLASSES, DIM = 12, 3, 32


def texts(batch):
    tokens = torch.tensor([[49406, 5, 49407, 0], [49406, 6, 7, 49407]])
    return Texts(tokens, torch.randint(0, 2, (batch, QUERIES - 4)))


def loss(model, image):
    """A number that every output of training enters, each with its own weights."""
    prediction = model(image, task_tokens(Task.PANOPTIC, len(image)), texts(len(image)))
    outputs = [*prediction.class_logits, *prediction.mask_embeddings, prediction.queries, prediction.text_queries]
    outputs += [
        torch.einsum("bqd,bdhw->bqhw", embeddings, prediction.mask_features)
        for embeddings in prediction.mask_embeddings
    ]
    generator = torch.Generator().manual_seed(3)
    total = sum((value * torch.randn(value.shape, generator=generator)).mean() for value in outputs)
    return total * model.text_branch.logit_scale


@pytest.mark.parametrize("size", [(64, 64), (61, 83), (32, 97), (33, 33)])
def test_any_size_gives_masks_of_a_quarter(model, size):
    with torch.inference_mode():
        prediction = model(torch.randn(2, 3, *size), task_tokens(Task.SEMANTIC, 2))
    assert isinstance(prediction, Prediction)
    assert prediction.class_logits.shape == (2, QUERIES, CLASSES + 1)
    assert prediction.mask_logits.shape == (2, QUERIES, ceil(size[0] / 4), ceil(size[1] / 4))
    assert prediction.auxiliary is None


def test_images_of_a_batch_do_not_touch_each_other(model):
    image = torch.randn(2, 3, 61, 83)
    tokens = torch.cat([task_tokens(Task.SEMANTIC), task_tokens(Task.INSTANCE)])
    with torch.inference_mode():
        both = model(image, tokens)
        for row in range(2):
            alone = model(image[row : row + 1], tokens[row : row + 1])
            torch.testing.assert_close(both.class_logits[row], alone.class_logits[0], rtol=0, atol=1e-4)
            torch.testing.assert_close(both.mask_logits[row], alone.mask_logits[0], rtol=0, atol=1e-3)


def test_the_task_changes_the_outputs(model):
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        results = [model(image, task_tokens(task)).class_logits for task in TASKS]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(results[first], results[second], atol=1e-3)


def test_training_returns_what_the_losses_need(training_model):
    prediction = training_model(torch.randn(2, 3, 61, 83), task_tokens(Task.SEMANTIC, 2), texts(2))
    assert isinstance(prediction, TrainingPrediction)
    assert [tuple(logits.shape) for logits in prediction.class_logits] == [(2, QUERIES, CLASSES + 1)] * 3
    assert [tuple(embeddings.shape) for embeddings in prediction.mask_embeddings] == [(2, QUERIES, DIM)] * 3
    assert prediction.mask_features.shape == (2, DIM, 16, 21)
    assert prediction.queries.shape == prediction.text_queries.shape == (2, QUERIES, DIM)


def test_training_and_inference_agree(training_model):
    image, tokens = torch.randn(1, 3, 64, 64), task_tokens(Task.SEMANTIC)
    training_model.eval()
    with torch.inference_mode():
        trained, inferred = training_model(image, tokens, texts(1)), training_model(image, tokens)
    masks = torch.einsum("bqd,bdhw->bqhw", trained.mask_embeddings[-1], trained.mask_features)
    torch.testing.assert_close(inferred.mask_logits, masks)
    torch.testing.assert_close(inferred.class_logits, trained.class_logits[-1])


def test_a_gradient_reaches_every_parameter(training_model):
    with torch.no_grad():  # fresh sampling offsets start from zero weights, which let nothing through
        for parameter in training_model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    loss(training_model, torch.randn(2, 3, 61, 83)).backward()
    for name, parameter in training_model.named_parameters():
        assert parameter.grad is not None, name
        if ".key.bias" in name or name in UNMOVED:
            continue
        assert parameter.grad.abs().max() > 0, name


# Softmax ignores what all keys share, so a key's bias never moves. The queries of the class transformer all start as
# the task token, so how its first self-attention weighs them changes nothing.
UNMOVED = {
    f"query_decoder.class_transformer.decoder.0.self_attention.attention.{part}"
    for part in ("query.weight", "query.bias", "key.weight")
}


def test_recomputed_activations_give_the_same_gradients(section):
    image = torch.randn(2, 3, 61, 83)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = build(
            section(one_former={"dropout": 0.1}, swin={"drop_path_rate": 0.2}),
            training=True,
            activation_checkpoint=recompute,
        )
        assert model.backbone.use_checkpoint == model.pixel_decoder.use_checkpoint == recompute
        torch.manual_seed(1)
        loss(model, image).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_a_backbone_that_cannot_recompute_is_recomputed_as_a_whole(training_model):
    image = torch.randn(1, 3, 64, 64)
    gradients = []
    for whole in (False, True):
        training_model.recompute_backbone = whole
        training_model.zero_grad()
        torch.manual_seed(1)
        loss(training_model, image).backward()
        gradients.append(training_model.backbone.patch_embedding.projection.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_there_is_no_text_branch_at_inference(model):
    assert model.text_branch is None
    assert not any("text" in name for name in model.state_dict())
    with pytest.raises(ValueError, match="training=True"):
        model(torch.randn(1, 3, 64, 64), task_tokens(Task.SEMANTIC), texts(1))


def test_frozen_parts_stay_frozen(training_model):
    training_model.freeze([training_model.backbone.stages[0]])
    training_model.train()
    assert not training_model.backbone.stages[0].training
    assert training_model.backbone.stages[1].training
    assert not any(parameter.requires_grad for parameter in training_model.backbone.stages[0].parameters())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_task_tokens_stay_float32_when_the_weights_are_cast(model, kind):
    encoder = model.task_encoder.to(kind)
    found = {task: encoder(task_tokens(task)) for task in TASKS}
    assert all(value.dtype == kind for value in found.values())
    exact = copy.deepcopy(encoder).float()  # the same weights, rounded as they are
    for task, value in found.items():
        assert torch.equal(value, exact(task_tokens(task)).to(kind))


def test_task_tokens_stay_float32_under_autocast(model):
    tokens = task_tokens(Task.PANOPTIC)
    expected = model.task_encoder(tokens)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.task_encoder(tokens), expected)
        prediction = model(torch.randn(1, 3, 64, 64), tokens)
    assert prediction.mask_logits.isfinite().all()


def test_torch_exports_the_network_with_an_open_batch(model):
    batch = torch.export.Dim("batch", min=1)
    arguments = torch.randn(2, 3, 61, 83), task_tokens(Task.SEMANTIC, 2)
    program = torch.export.export(model, arguments, dynamic_shapes=({0: batch}, {0: batch}))
    image, tokens = torch.randn(3, 3, 61, 83), task_tokens(Task.INSTANCE, 3)
    with torch.inference_mode():
        found, expected = program.module()(image, tokens), model(image, tokens)
    torch.testing.assert_close(found[0], expected.class_logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found[1], expected.mask_logits, rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def full_size():
    """Swin-T, 150 queries, 133 classes: shapes without memory."""
    swin = SwinOptions(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7)
    with torch.device("meta"):
        return build(ModelSection(backbone=BackboneSection(sections={"swin": swin})), training=True)


def test_the_parameters_are_the_published_ones(full_size):
    """As many numbers, of the same shapes once queries, keys and values are one matrix again."""
    observed = Path(__file__).parents[1] / "adapters" / "keys" / "swin_tiny.json.gz"
    published = json.loads(gzip.decompress(observed.read_bytes()))["shi"]
    shapes = sorted(tuple(shape) for name, shape in published.items() if "relative_position_index" not in name)
    state = {name: tuple(value.shape) for name, value in full_size.state_dict().items()}
    del state["text_branch.logit_scale"]  # there a part of the loss
    for name in [name for name in state if ".attention.query." in name]:
        together = [state.pop(name.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
        state[name] = (sum(shape[0] for shape in together), *together[0][1:])
    assert sorted(state.values()) == shapes
    assert sum(map(prod, state.values())) == sum(map(prod, shapes))
