"""Layers that patterns choose."""

import pytest

from oneformer_deploy.layer_patterns import layers_to_quantize
from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import load_spec

KINDS = {"/backbone/linear1": "MatMul", "/backbone/linear2": "MatMul", "/head/conv": "Conv"}


def chosen(*words):
    return layers_to_quantize(KINDS, load_spec([], words).spec.quantize)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), [*KINDS]),
        (("quantize.skip_names=[/backbone/*]",), ["/head/conv"]),
        (("quantize.skip_names=[MatMul]",), ["/head/conv"]),
        (("quantize.layers=[{module_name: '*linear?'}]",), ["/backbone/linear1", "/backbone/linear2"]),
        (
            (
                "quantize.layers=[{module_name: MatMul, weights: {dtype: INT8}}, "
                "{module_name: /backbone/linear2, weights: {dtype: fp32}}]",
            ),
            ["/backbone/linear1"],
        ),
        (("quantize.layers=[{module_name: Conv}]", "quantize.skip_names=[/head/*]"), []),
    ],
)
def test_names_and_kinds_choose(words, expected):
    assert chosen(*words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "quantize.skip_names=[/head/cov]",
            "skip_names[0]: '/head/cov' matches none of the 3 layers; similar: /head/conv",
        ),
        ("quantize.layers=[{name: a}]", "layers[0]: no such key: name; available: module_name, weights"),
        ("quantize.layers=[{weights: {dtype: int8}}]", "layers[0]: module_name is missing"),
        ("quantize.layers=[{module_name: Conv, weights: {dtype: int3}}]", "weights.dtype: found 'int3', expected int8"),
    ],
)
def test_what_is_wrong_is_reported(words, message):
    with pytest.raises(SpecError) as caught:
        chosen(words)
    assert message in str(caught.value)
