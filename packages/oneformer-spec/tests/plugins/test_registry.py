"""Plugins are loaded one by one: a broken one is a warning, two that claim one name are an error."""

import importlib.metadata
import sys
import textwrap

import pytest

from oneformer_spec import hooks
from oneformer_spec.errors import PluginError, UsageError
from oneformer_spec.hooks import Backbone, Command, Runtime
from oneformer_spec.plugins import builtins, registry
from oneformer_spec.schema import Spec

IMPORTS = "from oneformer_spec.hooks import Backbone, Command, Dataset, Evaluator, Runtime, Task, hookimpl\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install distributions, each of one module with the same text, and load their entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def load(**modules):
        for distribution, text in modules.items():
            (tmp_path / f"{distribution}_module.py").write_text(IMPORTS + textwrap.dedent(text))
            information = tmp_path / f"{distribution}-1.2.dist-info"
            information.mkdir()
            (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
            (information / "entry_points.txt").write_text(f"[oneformer]\nmain = {distribution}_module\n")
        found = importlib.metadata.distributions(path=[str(tmp_path)])
        return registry.load(point for distribution in found for point in distribution.entry_points)

    yield load
    for name in set(sys.modules) - before:
        if name.endswith("_module"):
            del sys.modules[name]


GOOD = """
    @hookimpl
    def oneformer_backbones():
        return [Backbone("tiny", "good_module:build", "good_module:Options")]

    @hookimpl
    def oneformer_commands():
        return (Command("count", "good_module:run", "Count."),)

    @hookimpl
    def oneformer_runtimes():
        return [Runtime("paper", "good_module:open", (".paper",))]
"""


def test_declarations_are_found_by_name(install):
    found = install(good=GOOD)
    assert found.backbones == {"tiny": Backbone("tiny", "good_module:build", "good_module:Options")}
    assert found.command("count") == Command("count", "good_module:run", "Count.")
    assert found.runtime("a/model.PAPER").name == "paper"
    assert found.owners[("backbone", "tiny")] == "good:main"
    assert found.plugins == (registry.Plugin("good", "1.2", "good_module"),)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("@hookimpl\ndef oneformer_backbone():\n    return []", "unknown hook 'oneformer_backbone'"),
        ("@hookimpl\ndef oneformer_backbones(size):\n    return []", "size"),
        ("def oneformer_backbones():\n    return []", "it implements no hook; a hook's function carries @hookimpl"),
        ("@hookimpl\ndef oneformer_backbones():\n    return 1 / 0", "ZeroDivisionError: division by zero"),
        (
            "@hookimpl\ndef oneformer_backbones():\n    return 'tiny'",
            "oneformer_backbones must return a list of Backbone, found 'tiny'",
        ),
        (
            "@hookimpl\ndef oneformer_datasets():\n    return [Backbone('a', 'b:c', 'd:e')]",
            "oneformer_datasets must return a list of Dataset, found Backbone(",
        ),
        (
            "@hookimpl\ndef oneformer_evaluators():\n    return 2 * [Evaluator('a', 'b:c', 't')]",
            "it declares the evaluator 'a' twice",
        ),
    ],
)
def test_a_broken_plugin_is_one_warning_and_the_others_go_on(install, text, reason):
    found = install(abroken=text, good=GOOD, zbroken=text)
    assert list(found.backbones) == ["tiny"]
    assert found.datasets == found.evaluators == {}
    assert len(found.warnings) == 2
    first, second = found.warnings
    assert first.startswith("plugin abroken (abroken_module) does not load and is left out: ")
    assert second.startswith("plugin zbroken (zbroken_module) does not load and is left out: ")
    assert reason in first
    assert "\n" not in first


def test_a_plugin_that_fails_in_one_hook_declares_nothing(install):
    text = """
        @hookimpl
        def oneformer_backbones():
            return [Backbone("half", "a:b", "c:d")]

        @hookimpl
        def oneformer_runtimes():
            raise ValueError("no licence")
    """
    found = install(half=text)
    assert found.backbones == {}
    assert found.owners == {}


CLAIM = """
    @hookimpl
    def oneformer_backbones():
        return [Backbone("swin", "a:b", "c:d")]
"""


def test_two_plugins_that_claim_one_name_are_both_named(install):
    with pytest.raises(PluginError, match=r"^two plugins claim the backbone 'swin': first:main and second:main$"):
        install(first=CLAIM, second=CLAIM)


def test_two_runtimes_that_claim_one_suffix_are_both_named(install):
    text = """
        @hookimpl
        def oneformer_runtimes():
            return [Runtime(__name__, "a:b", (".pth", {}))]
    """
    with pytest.raises(PluginError, match=r"^two plugins claim the suffix '\.x': first:main and second:main$"):
        install(first=text.format("'.x'"), second=text.format("'.X'").replace(".pth", ".pt"))


def test_one_name_in_two_kinds_is_no_clash(install):
    text = """
        @hookimpl
        def oneformer_evaluators():
            return [Evaluator("tiny", "a:b", "semantic")]
    """
    found = install(good=GOOD, other=text)
    assert "tiny" in found.backbones
    assert "tiny" in found.evaluators


@pytest.mark.parametrize(("verb", "package"), registry.VERB_PACKAGES.items())
def test_a_missing_verb_names_the_pip_command(verb, package):
    with pytest.raises(UsageError) as caught:
        registry.Registry().command(verb)
    assert str(caught.value) == f"{verb} is not installed here; get it with: python -m pip install '{package}'"


def test_an_unknown_verb_lists_the_known_ones():
    known = registry.Registry(commands={name: Command(name, "a:b", "") for name in ("train", "export")})
    with pytest.raises(UsageError, match=r"^no command 'trian'; installed: export, train$"):
        known.command("trian")


@pytest.mark.parametrize(("suffix", "package"), registry.SUFFIX_PACKAGES.items())
def test_a_missing_runtime_names_the_pip_command(suffix, package):
    with pytest.raises(UsageError) as caught:
        registry.Registry().runtime(f"out/model{suffix}")
    assert str(caught.value) == f"out/model{suffix}: running a {suffix} file needs: python -m pip install '{package}'"


@pytest.mark.parametrize(("name", "package"), registry.RUNTIME_PACKAGES.items())
def test_a_missing_runtime_that_is_named_gives_the_pip_command(name, package):
    with pytest.raises(UsageError) as caught:
        registry.Registry().runtime("model.onnx", name)
    assert str(caught.value) == (
        f"runtime {name!r} is not installed here; get it with: python -m pip install '{package}'"
    )


def test_a_name_wins_over_the_suffix_where_the_runtime_reads_it():
    found = registry.Registry(
        runtimes={"a": Runtime("a", "a:b", (".onnx",)), "b": Runtime("b", "b:b", (".engine",), also=(".onnx",))}
    )
    assert found.runtime("model.onnx").name == "a"
    assert found.runtime("model.ONNX", "b").name == "b"
    assert found.runtime("model.engine").name == "b"
    with pytest.raises(UsageError, match=r"^model\.pth: the runtime b reads \.engine, \.onnx, not '\.pth'$"):
        found.runtime("model.pth", "b")
    with pytest.raises(UsageError, match=r"^runtime 'c' is not installed here; there are a, b$"):
        found.runtime("model.onnx", "c")


@pytest.mark.parametrize("path", ["weights", "model.pkl", "model.safetensors"])
def test_weights_of_other_projects_are_to_be_converted_first(path):
    with pytest.raises(UsageError, match=f"convert it first: oneformer convert {path} model.pth"):
        registry.Registry().runtime(path)


def test_an_unknown_suffix_lists_the_known_ones():
    found = registry.Registry(runtimes={"a": Runtime("a", "a:b", (".pth", ".onnx"))})
    with pytest.raises(UsageError, match=r"^model\.xyz: no runtime for the suffix '\.xyz'; known here: \.onnx, \.pth$"):
        found.runtime("model.xyz")


def test_resolve_imports_a_target():
    assert registry.resolve("oneformer_spec.hooks:GROUP") == "oneformer"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:thing", "no_such_module:thing: cannot be loaded: ModuleNotFoundError: No module named"),
        ("oneformer_spec.hooks:nothing", "oneformer_spec.hooks:nothing: cannot be loaded: AttributeError: "),
        ("oneformer_spec.hooks", "'oneformer_spec.hooks': a target is written 'module:attribute'"),
        (":run", "':run': a target is written 'module:attribute'"),
    ],
)
def test_a_target_that_cannot_be_loaded_is_one_line(target, message):
    with pytest.raises(PluginError) as caught:
        registry.resolve(target)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_target_whose_module_fails_is_one_line(install):
    install(failing="raise OSError('no driver\\nhere')")
    with pytest.raises(PluginError, match=r"^failing_module:run: cannot be loaded: OSError: no driver here$"):
        registry.resolve("failing_module:run")


def test_this_package_declares_the_built_in_backbones():
    found = registry.load(importlib.metadata.distribution("oneformer-spec").entry_points)
    assert list(found.backbones) == ["dinat", "efficientvit", "swin", "timm"]
    assert set(found.owners.values()) == {"oneformer-spec:spec"}
    assert found.warnings == ()
    assert found.backbones == {backbone.name: backbone for backbone in builtins.oneformer_backbones()}


@pytest.mark.parametrize("backbone", builtins.oneformer_backbones(), ids=lambda backbone: backbone.name)
def test_options_of_built_in_backbones_can_be_read_here(backbone):
    assert Spec().model.backbone.sections[backbone.name] == registry.resolve(backbone.options)()


SCORES = """
    @hookimpl
    def oneformer_evaluators():
        edges, more = (("edge_score", "edges"), ("more", "semantic"))
        return [Evaluator(name, "scores_module:make", task) for name, task in (edges, more)]
"""
EDGES = """
    @hookimpl
    def oneformer_tasks():
        return [Task("edges", "The task is edges", "edges_module:targets")]
"""


def test_an_evaluator_of_an_unknown_task_is_left_out_in_one_line(install):
    found = install(scores=SCORES)
    assert list(found.evaluators) == ["more"]
    assert found.warnings == (
        "the evaluator 'edge_score' of scores:main is left out: "
        "no task 'edges' is installed; available: semantic, instance, panoptic",
    )


def test_an_evaluator_may_score_another_plugins_task(install):
    found = install(scores=SCORES, tasks=EDGES)
    assert (list(found.evaluators), list(found.tasks), found.warnings) == (["edge_score", "more"], ["edges"], ())


def test_the_hooks_are_these():
    """Adding a hook is a decision: change this list with it."""
    assert sorted(name for name in vars(hooks.Hooks) if name.startswith("oneformer_")) == [
        "oneformer_backbones",
        "oneformer_callbacks",
        "oneformer_commands",
        "oneformer_datasets",
        "oneformer_evaluators",
        "oneformer_loggers",
        "oneformer_losses",
        "oneformer_quantizers",
        "oneformer_runtimes",
        "oneformer_tasks",
        "oneformer_transforms",
    ]


def test_the_registry_is_read_once():
    assert registry.registry() is registry.registry()
