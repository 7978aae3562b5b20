"""Run exported OneFormer models on hosts without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneformer_deploy.runtimes.onnxruntime_runtime import open as open_onnx

__all__ = ["open_onnx"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.runtimes.onnxruntime_runtime").open
