"""The backbones, formats and tasks that are ours, declared here so that this package alone can check specs."""

from __future__ import annotations

from oneformer_spec.hooks import Backbone, Dataset, Task, hookimpl
from oneformer_spec.tasks import TASKS, task_prompt

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
    every = ("semantic", "instance", "panoptic")
    return [
        Dataset(
            "coco_panoptic",
            "oneformer_data.formats.coco_panoptic:CocoPanoptic",
            every,
            suffixes=(".json",),
            panoptic=True,
        ),
        Dataset(
            "coco_instance",
            "oneformer_data.formats.coco_instance:CocoInstance",
            ("instance",),
            suffixes=(".json",),
        ),
        Dataset(
            "semantic_jsonl",
            "oneformer_data.formats.semantic_jsonl:SemanticJsonl",
            ("semantic", "panoptic"),
            suffixes=(".jsonl",),
        ),
        Dataset(
            "webdataset",
            "oneformer_data.shards.webdataset:WebDataset",
            every,
            suffixes=(".tar",),
            names=("shards.json",),
            places=("file", "folder", "pattern", "url"),
        ),
    ]


@hookimpl
def oneformer_tasks() -> list[Task]:
    """Declare the built-in tasks."""
    return [
        Task(
            name=task,
            prompt=task_prompt(task),
            targets=f"oneformer_data.training.targets:{task.name}",
            decode=task,
            needs=(task,),
        )
        for task in TASKS
    ]
