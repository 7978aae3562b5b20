"""Every built-in backbone at operator sets of both exporters, with an open batch, at one size and at any."""

from dataclasses import replace

import pytest
import torch

from oneformer_model.build import build
from oneformer_model.onnx_export import comparison
from oneformer_model.onnx_export.graph import Shape, write_graph
from oneformer_spec.errors import OneFormerError
from oneformer_spec.plugins.builtins import oneformer_backbones
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.schema import BackboneSection
from oneformer_spec.schema.tree import plain

HEIGHT, WIDTH = 64, 96
OPSETS = (12, 16, 17, 18, 20)
TOLERANCE = 1e-4  # of the largest logit
STAGES = {"embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
OPTIONS = {
    "swin": STAGES | {"window_size": 7},
    "dinat": STAGES | {"depths": (1, 1, 1, 1), "kernel_size": 3},
    "efficientvit": {"variant": "b0"},
    "timm": {"name": "convnext_atto"},
}
PIXEL_DECODERS = {"efficientvit": "BasePixelDecoder", "timm": "TransformerEncoderPixelDecoder"}
ONE_SIZE = {"dinat"}


@pytest.fixture
def written(section, manifest, monkeypatch):
    """Write the graph of a backbone in a network of few layers; it is compared before it is returned."""
    monkeypatch.setattr(comparison, "TOLERANCE", TOLERANCE)

    def write(name, opset, *, is_open):
        declaration = next(backbone for backbone in oneformer_backbones() if backbone.name == name)
        small = section(
            sem_seg_head={"pixel_decoder_name": PIXEL_DECODERS.get(name, "MSDeformAttnPixelDecoder")},
            one_former={"dec_layers": 2, "num_feature_levels": 1},
        )
        backbone = BackboneSection(type=name, sections={name: resolve(declaration.options)(**OPTIONS[name])})
        small = replace(small, backbone=backbone)
        model = build(small, training=False).eval()
        described = replace(manifest, model=plain(small))
        return write_graph(
            model, described, Shape(None, HEIGHT, WIDTH, is_open), opset=opset, device=torch.device("cpu")
        )

    return write


def test_every_built_in_backbone_is_here():
    assert sorted(OPTIONS) == sorted(backbone.name for backbone in oneformer_backbones())


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_written_for_one_size(written, name, opset):
    graph = written(name, opset, is_open=False).model
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [opset]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", sorted(set(OPTIONS) - ONE_SIZE))
def test_it_is_written_for_any_size(written, name, opset):
    graph = written(name, opset, is_open=True).model
    assert [axis.dim_param for axis in graph.graph.input[0].type.tensor_type.shape.dim] == [
        *("batch", "", "height", "width")
    ]


@pytest.mark.parametrize("name", ONE_SIZE)
def test_one_that_is_laid_out_for_one_size_says_so(written, name):
    with pytest.raises(OneFormerError, match="laid out for one size of image"):
        written(name, 18, is_open=True)
