"""Importing the root, the hooks, the registry or a plugin module imports nothing heavy."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import oneformer_spec

HEAVY = ("numpy", "torch", "yaml", "ruamel", "PIL", "jsonschema", "array_api_compat", "rich", "typer")


@pytest.mark.parametrize(
    "statement",
    [
        "import oneformer_spec",
        "import oneformer_spec.hooks",
        "import oneformer_spec.plugins.registry",
        "import oneformer_spec.plugins.builtins",
        "import oneformer_spec.commands.exit",
        "import oneformer_spec.tasks",
        "import oneformer_spec.files.atomic",
        "from oneformer_spec import Task, SpecError",
        "from oneformer_spec.plugins.registry import load; import importlib.metadata as m;"
        "load(m.distribution('oneformer-spec').entry_points)",
    ],
)
def test_light_modules_stay_light(statement):
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_a_spec_is_checked_without_torch():
    code = (
        "import sys; from oneformer_spec.loading.load import load_spec; load_spec([]);"
        "print(*sorted({'torch', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.parametrize("name", oneformer_spec.__all__)
def test_public_names_resolve_to_their_modules(name):
    value = getattr(oneformer_spec, name)
    home = importlib.import_module(f"oneformer_spec.{oneformer_spec._HOME_OF[name]}")
    assert value is getattr(home, name)


def test_no_public_name_is_a_module():
    """Importing a module sets its name on the package, over whatever the root would give."""
    modules = {module.name for module in pkgutil.iter_modules(oneformer_spec.__path__)}
    assert modules.isdisjoint(oneformer_spec.__all__)


def test_a_type_checker_sees_the_same_names():
    tree = ast.parse(Path(oneformer_spec.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(oneformer_spec.__all__) == set(oneformer_spec._HOME_OF) == set(dir(oneformer_spec))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = oneformer_spec.nonsense


def test_a_default_spec_and_a_model_file_touch_no_entry_point():
    code = (
        "import importlib.metadata as m\n"
        "def refuse(**group): raise SystemExit('entry points were read')\n"
        "m.entry_points = refuse\n"
        "from oneformer_spec.schema import Spec\n"
        "import oneformer_spec.segmentation.model_file, oneformer_spec.testing\n"
        "spec = Spec()\n"
        "assert spec.model.backbone.type == 'swin' and spec == spec\n"
        "print(spec.train.loggers[0].type)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "tensorboard\n", "")
