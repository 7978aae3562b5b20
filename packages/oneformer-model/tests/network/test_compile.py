"""torch.compile and torch.export take the network as one graph, which computes what the network does."""

import pytest
import torch

from oneformer_model import task_tokens
from oneformer_model.build import build
from oneformer_spec.tasks import Task

SIZES = [(64, 64), (45, 70)]
TOLERANCE = 1e-5  # of the largest logit


def arguments(size):
    return torch.randn(1, 3, *size), task_tokens(Task.PANOPTIC)


def assert_close(found, expected):
    for name, value, wanted in zip(("classes", "masks"), found, expected, strict=False):
        difference = (value - wanted).abs().max() / wanted.abs().max()
        assert difference <= TOLERANCE, f"{name}: {difference:.1e}"


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def small(section):
    """Every kind of part once, and three levels: tracing takes its time by the layer."""
    fields = {
        "swin": {
            "depths": (2, 1, 1),
            "num_heads": (2, 2, 4),
            "out_features": ("res2", "res3", "res4"),
            "out_indices": (0, 1, 2),
        },
        "sem_seg_head": {
            "in_features": ("res3", "res4"),
            "deformable_transformer_encoder_in_features": ("res3", "res4"),
        },
        "one_former": {"dec_layers": 2, "num_feature_levels": 2},
    }
    return build(section(**fields), training=False).eval()


@pytest.mark.parametrize("size", SIZES)
def test_the_network_compiles_without_a_graph_break(small, size):
    inputs = arguments(size)
    compiled = torch.compile(small, fullgraph=True, backend="aot_eager", dynamic=False)
    with torch.inference_mode():
        expected = small(*inputs)  # fills the caches of constants, which a graph must not take in
        assert_close(compiled(*inputs), expected)
        assert_close(small(*inputs), expected)  # nor may a traced value get into them


def test_the_network_exports(small):
    inputs = arguments((64, 64))  # another test exports a size that is not square
    with torch.no_grad():
        assert_close(torch.export.export(small, inputs).module()(*inputs), small(*inputs))


@pytest.mark.parametrize(("kind", "norm"), [("BasePixelDecoder", "LN"), ("TransformerEncoderPixelDecoder", "SyncBN")])
def test_every_pixel_decoder_compiles(section, kind, norm):
    model = build(section(sem_seg_head={"pixel_decoder_name": kind, "norm": norm}), training=False).eval()
    compiled = torch.compile(model.pixel_decoder, fullgraph=True, backend="eager", dynamic=False)
    with torch.inference_mode():
        features = model.backbone(torch.randn(1, 3, 45, 70))
        expected, found = model.pixel_decoder(features), compiled(features)
    torch.testing.assert_close(found.mask_features, expected.mask_features)
    torch.testing.assert_close(found.levels, expected.levels)


def test_bfloat16_stays_near_float32(model):
    """The class and mask logits of 16-bit autocast are off by less than a tenth of the largest logit."""
    inputs = arguments((64, 96))
    with torch.inference_mode():
        expected = model(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(*inputs)
            assert model.task_encoder(inputs[1]).dtype == torch.float32
    for value, wanted in zip(found[:2], expected[:2], strict=True):
        assert value.isfinite().all()
        assert (value.float() - wanted).abs().max() <= 0.1 * wanted.abs().max()
