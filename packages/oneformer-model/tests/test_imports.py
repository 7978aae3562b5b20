import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["oneformer_model", "oneformer_model.plugin"])
def test_listing_plugins_imports_nothing_heavy(module):
    script = f"import sys, {module}; print(*{{'torch', 'timm', 'numpy', 'onnx'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not result.stdout.split()


def test_public_names_are_found_when_used():
    import oneformer_model

    assert [getattr(oneformer_model, name).__name__ for name in oneformer_model.__all__] == oneformer_model.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = oneformer_model.nothing
