"""The examples in docstrings give what they show."""

import doctest
import importlib

import pytest

MODULES = ("labels", "processes.threads", "processes.world", "results", "segmentation.frame", "documents.yaml_lines")


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_right(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"oneformer_spec.{name}"))
    assert outcome.attempted
    assert not outcome.failed
