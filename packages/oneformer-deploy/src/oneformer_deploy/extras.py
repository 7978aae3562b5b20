"""Packages that only some commands need, and what brings them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from oneformer_spec.errors import UsageError

EXTRAS = {"gen_trt_engine": "tensorrt", "quantize": "quantize"}


def need_onnx(command: str, packages: Sequence[str] = ("onnx",)) -> None:
    """UsageError, with the pip command, where a package that a command needs is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{command} needs {', '.join(missing)}; "
            f"get it with: python -m pip install 'oneformer-deploy[{EXTRAS[command]}]'"
        )
