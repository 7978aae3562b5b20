"""What must mean the same on a training host and on an inference host.

Public names are imported on first use, so that `import oneformer_spec` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneformer_spec.errors import CheckpointError, DataError, OneFormerError, PluginError, SpecError, UsageError
    from oneformer_spec.files.images import Content, content, find_images, read_image
    from oneformer_spec.labels import Label, Labels
    from oneformer_spec.loading.load import load_spec
    from oneformer_spec.plugins.registry import registry, resolve
    from oneformer_spec.results import Segment, Segmentation
    from oneformer_spec.schema import Spec
    from oneformer_spec.segmentation.decode import Thresholds, decode
    from oneformer_spec.segmentation.frame import FitInto, Frame, ShortestEdge
    from oneformer_spec.segmentation.manifest import Manifest
    from oneformer_spec.segmentation.segmenter import Segmenter
    from oneformer_spec.tasks import TASKS, Task, task_prompt, task_tokens

__all__ = [
    "TASKS",
    "CheckpointError",
    "Content",
    "DataError",
    "FitInto",
    "Frame",
    "Label",
    "Labels",
    "Manifest",
    "OneFormerError",
    "PluginError",
    "Segment",
    "Segmentation",
    "Segmenter",
    "ShortestEdge",
    "Spec",
    "SpecError",
    "Task",
    "Thresholds",
    "UsageError",
    "content",
    "decode",
    "find_images",
    "load_spec",
    "read_image",
    "registry",
    "resolve",
    "task_prompt",
    "task_tokens",
]

_HOMES = {
    "segmentation.decode": ("Thresholds", "decode"),
    "errors": ("CheckpointError", "DataError", "OneFormerError", "PluginError", "SpecError", "UsageError"),
    "segmentation.frame": ("FitInto", "Frame", "ShortestEdge"),
    "files.images": ("Content", "content", "find_images", "read_image"),
    "labels": ("Label", "Labels"),
    "loading.load": ("load_spec",),
    "segmentation.manifest": ("Manifest",),
    "plugins.registry": ("registry", "resolve"),
    "results": ("Segment", "Segmentation"),
    "schema": ("Spec",),
    "segmentation.segmenter": ("Segmenter",),
    "tasks": ("TASKS", "Task", "task_prompt", "task_tokens"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
