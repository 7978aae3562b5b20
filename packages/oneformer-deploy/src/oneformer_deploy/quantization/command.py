"""The command `quantize`: the library that `quantize.backend` names does it."""

from __future__ import annotations

from functools import partial

from oneformer_deploy.layer_patterns import layers_to_quantize
from oneformer_spec.errors import SpecError
from oneformer_spec.plugins.registry import registry, resolve
from oneformer_spec.schema import Spec


def run(spec: Spec) -> None:
    """Make `quantize.model_path` smaller.

    Raises:
        SpecError: No file is named.
        UsageError: The library is not installed.
    """
    if not spec.quantize.model_path:
        raise SpecError("quantize.model_path: names no file; set it to the .onnx or .pth file to quantize")
    quantize = resolve(registry().quantizer(spec.quantize.backend or "onnxruntime").target)
    quantize(spec, partial(layers_to_quantize, options=spec.quantize))
