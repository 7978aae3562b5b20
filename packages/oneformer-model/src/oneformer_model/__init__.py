"""The OneFormer network in PyTorch: backbones, pixel decoder, query decoder, checkpoints, ONNX export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneformer_model.oneformer import OneFormer as OneFormer
    from oneformer_model.oneformer import Prediction as Prediction
    from oneformer_model.oneformer import TrainingPrediction as TrainingPrediction
    from oneformer_model.text_encoder import Texts as Texts
    from oneformer_model.tokens import task_tokens as task_tokens
    from oneformer_model.weights import load as load

_HOMES = {
    "OneFormer": "oneformer",
    "Prediction": "oneformer",
    "Texts": "text_encoder",
    "TrainingPrediction": "oneformer",
    "load": "weights",
    "task_tokens": "tokens",
}
__all__ = ["OneFormer", "Prediction", "Texts", "TrainingPrediction", "load", "task_tokens"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package stays cheap."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
