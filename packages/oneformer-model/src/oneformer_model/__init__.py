"""The OneFormer network in PyTorch: backbones, pixel decoder, query decoder, checkpoints, ONNX export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneformer_model.network.oneformer import OneFormer as OneFormer
    from oneformer_model.network.oneformer import Prediction as Prediction
    from oneformer_model.network.oneformer import TrainingPrediction as TrainingPrediction
    from oneformer_model.network.oneformer import task_tokens as task_tokens
    from oneformer_model.network.text_branch import Texts as Texts
    from oneformer_model.weights.sources import load as load

_HOMES = {
    "OneFormer": "network.oneformer",
    "Prediction": "network.oneformer",
    "Texts": "network.text_branch",
    "TrainingPrediction": "network.oneformer",
    "load": "weights.sources",
    "task_tokens": "network.oneformer",
}
__all__ = ["OneFormer", "Prediction", "Texts", "TrainingPrediction", "load", "task_tokens"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package stays cheap."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
