"""The backbones that are ours; their options live here so that a spec can be checked where torch is not installed."""

from __future__ import annotations

from oneformer_spec.hooks import Backbone, hookimpl

_BACKBONES = {
    "swin": ("oneformer_model.backbones.swin:SwinTransformer", "SwinOptions"),
    "efficientvit": ("oneformer_model.backbones.timm_backbones:efficientvit", "EfficientVitOptions"),
    "timm": ("oneformer_model.backbones.timm_backbones:TimmBackbone", "TimmOptions"),
    "dinat": ("oneformer_model.backbones.dinat:DilatedNeighborhoodTransformer", "DinatOptions"),
    "radio": ("oneformer_model.backbones.radio:Radio", "RadioOptions"),
}


@hookimpl
def oneformer_backbones() -> list[Backbone]:
    """Declare the built-in backbones."""
    return [
        Backbone(name, target, f"oneformer_spec.schema.backbones:{options}")
        for name, (target, options) in _BACKBONES.items()
    ]
