"""`check_backbone` on a swin of which one thing was changed."""

import pytest
import torch
from torch import nn

from oneformer_model.backbones.swin import PatchEmbedding, SwinTransformer
from oneformer_model.testing import check_backbone
from oneformer_spec.plugins.builtins import oneformer_backbones

TINY = {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "window_size": 4, "drop_path_rate": 0.0} | {
    "out_features": ("res2", "res3"),
    "out_indices": (0, 1),
}


@pytest.fixture
def check():
    """Check the tiny swin."""
    declaration = next(backbone for backbone in oneformer_backbones() if backbone.name == "swin")
    return lambda: check_backbone(declaration, **TINY)


@pytest.fixture
def change(monkeypatch):
    """Replace the forward pass of the patch embedding by one that gets its result."""

    def make(function):
        forward = PatchEmbedding.forward
        monkeypatch.setattr(PatchEmbedding, "forward", lambda self, image: function(self, forward(self, image)))

    return make


def test_frozen_parameters_need_no_gradient(check, monkeypatch):
    initialise = SwinTransformer._initialise

    def freeze(self):
        initialise(self)
        self.patch_embedding.requires_grad_(False)

    monkeypatch.setattr(SwinTransformer, "_initialise", freeze)
    check()


def test_a_parameter_that_learns_nothing_is_named(check, monkeypatch):
    initialise = SwinTransformer._initialise

    def add(self):
        initialise(self)
        self.idle = nn.Parameter(torch.zeros(1))

    monkeypatch.setattr(SwinTransformer, "_initialise", add)
    with pytest.raises(AssertionError, match=r"^swin: no gradient reaches idle$"):
        check()


def test_what_cannot_be_exported_is_an_error_that_points_at_the_cure(check, change):
    change(lambda self, x: x + 0 * torch.special.bessel_j0(x.detach()))
    with pytest.raises(AssertionError, match=r"^swin: cannot be exported to ONNX: .*bessel_j0.* offers `at_size`"):
        check()


def test_a_graph_that_computes_something_else_is_an_error(check, change):
    change(lambda self, x: x * (2 if torch.jit.is_tracing() else 1))
    with pytest.raises(AssertionError, match=r"^swin: res2 of its ONNX graph differs by .* offers `at_size`"):
        check()


def test_without_the_exporters_packages_no_graph_is_tried(check, change, monkeypatch):
    change(lambda self, x: x + 0 * torch.special.bessel_j0(x.detach()))
    monkeypatch.setattr("oneformer_model.testing._EXPORTERS", ("a_package_that_is_not_there",))
    check()
