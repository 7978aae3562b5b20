"""The command `quantize`: hand the model to the quantization library chosen by `quantize.backend`."""

from __future__ import annotations

from functools import partial

from oneformer_deploy.layer_patterns import layers_to_quantize
from oneformer_spec.errors import SpecError
from oneformer_spec.plugins.entries import naming_plugin, section_keywords
from oneformer_spec.plugins.registry import registry, resolve
from oneformer_spec.schema import Spec


def run(spec: Spec) -> None:
    """Quantize the model `quantize.model_path`.

    Raises:
        SpecError: `quantize.model_path` is not set.
        UsageError: The library is not installed.
    """
    if not spec.quantize.model_path:
        raise SpecError("quantize.model_path: is not set; set it to the .onnx or .pth file to quantize")
    backend = registry().quantizer(spec.quantize.backend or "onnxruntime")
    with naming_plugin("quantizer", backend.name):
        options = section_keywords("quantizer", backend.name, spec.quantize.backends)
        resolve(backend.target)(spec, partial(layers_to_quantize, options=spec.quantize), **options)
