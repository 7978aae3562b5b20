"""Optional packages that only some commands need, and the pip extras that install them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from oneformer_spec.errors import UsageError

EXTRAS = {"gen_trt_engine": "tensorrt", "quantize": "quantize"}


def require_packages(command: str, packages: Sequence[str] = ("onnx",)) -> None:
    """Check that the packages a command needs are installed.

    Raises:
        UsageError: One is missing; the message gives the pip command.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{command} needs {', '.join(missing)}; "
            f"install it with: python -m pip install 'oneformer-deploy[{EXTRAS[command]}]'"
        )
