"""Training of OneFormer: losses, matcher, schedules, Lightning module, checkpoints and resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oneformer_train.loss.matcher import Matches as Matches
    from oneformer_train.loss.matcher import Target as Target
    from oneformer_train.loss.plugin_losses import matched_masks as matched_masks

_HOMES = {"Matches": "loss.matcher", "Target": "loss.matcher", "matched_masks": "loss.plugin_losses"}
__all__ = ["Matches", "Target", "matched_masks"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package stays cheap."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
