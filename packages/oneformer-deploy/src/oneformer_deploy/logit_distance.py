"""How far the outputs of a network move when layers go to INT8."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from oneformer_deploy.calibration import Feed
from oneformer_deploy.int8_graph import Quantizer
from oneformer_deploy.onnx import ERRORS_ONLY, Provider

PICTURES = 4  # enough to rank groups of layers


class LogitDistance:
    """Compares a quantized model with the float one on the first calibration pictures."""

    def __init__(self, quantizer: Quantizer, feeds: Sequence[Feed], providers: Sequence[Provider]) -> None:
        self._quantizer = quantizer
        self._feeds = feeds[:PICTURES]
        self._providers = providers

    def __call__(self, layers: list[str]) -> float:
        """Return the mean change of each output, as a part of its mean magnitude, summed over the outputs."""
        found = self._outputs(self._quantizer.quantized(layers))
        pairs = zip(self._expected, found, strict=True)
        return float(sum(np.abs(was - now).mean() / np.abs(was).mean() for was, now in pairs))

    @cached_property
    def _expected(self) -> list[NDArray[np.float32]]:
        return self._outputs(self._quantizer.prepared)

    def _outputs(self, model: onnx.ModelProto) -> list[NDArray[np.float32]]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=list(self._providers))
        return [output for feed in self._feeds for output in session.run(None, feed)]
