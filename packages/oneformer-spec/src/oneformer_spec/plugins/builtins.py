"""The backbones and annotation formats that are ours, declared here so that a spec can be checked without them."""

from __future__ import annotations

from oneformer_spec.hooks import Backbone, Dataset, hookimpl

_BACKBONES = {
    "swin": ("oneformer_model.backbones.swin:SwinTransformer", "SwinOptions"),
    "efficientvit": ("oneformer_model.backbones.timm_backbones:efficientvit", "EfficientVitOptions"),
    "timm": ("oneformer_model.backbones.timm_backbones:TimmBackbone", "TimmOptions"),
    "dinat": ("oneformer_model.backbones.dinat:DilatedNeighborhoodTransformer", "DinatOptions"),
}


@hookimpl
def oneformer_backbones() -> list[Backbone]:
    """Declare the built-in backbones."""
    return [
        Backbone(name, target, f"oneformer_spec.schema.backbones:{options}")
        for name, (target, options) in _BACKBONES.items()
    ]


@hookimpl
def oneformer_datasets() -> list[Dataset]:
    """Declare the built-in annotation formats."""
    formats, shards = "oneformer_data.formats", "oneformer_data.shards"
    return [
        Dataset(
            "coco_panoptic",
            f"{formats}.coco_panoptic:open_panoptic",
            ("semantic", "instance", "panoptic"),
            suffixes=(".json",),
            panoptic=True,
            check=f"{formats}.panoptic_files:problems",
        ),
        Dataset(
            "coco_instance",
            f"{formats}.coco_instance:open_instance",
            ("instance",),
            suffixes=(".json",),
            check=f"{formats}.instance_files:problems",
        ),
        Dataset(
            "semantic_jsonl",
            f"{formats}.semantic_jsonl:open_semantic",
            ("semantic", "panoptic"),
            suffixes=(".jsonl",),
            check=f"{formats}.semantic_jsonl:problems",
        ),
        Dataset(
            "webdataset",
            f"{shards}.reader:open_shards",
            ("semantic", "instance", "panoptic"),
            suffixes=(".tar",),
            names=("shards.json",),
            places=("file", "folder", "pattern", "url"),
            check=f"{shards}.verification:problems",
        ),
    ]
