"""The examples in docstrings give what they show."""

import doctest
import importlib

import pytest

MODULES = ("layer_patterns", "quantization.weight_only", "results.files", "results.rle", "runtimes.interface")


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_right(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"oneformer_deploy.{name}"))
    assert outcome.attempted
    assert not outcome.failed
