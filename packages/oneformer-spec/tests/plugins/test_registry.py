"""Plugins are loaded one by one: a broken one is one line, a name that two claim belongs to neither."""

import importlib.metadata
import re
import sys
import textwrap
from functools import partial

import pytest

from oneformer_spec import hooks
from oneformer_spec.errors import PluginError, SpecError, UsageError
from oneformer_spec.hooks import Backbone, Command, Runtime
from oneformer_spec.plugins import builtins, discovery, entries, packages, registry
from oneformer_spec.schema import Spec
from oneformer_spec.schema.tree import spec_tree

IMPORTS = "from oneformer_spec.hooks import *\n"


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


def returning(text):
    """Return a module whose hook returns an expression."""
    kind = re.search(r"[A-Z]\w+(?=\()", text)
    hook = f"oneformer_{kind[0].lower()}s" if kind else "oneformer_backbones"
    return f"@hookimpl\ndef {hook}():\n    return {text}"


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
    assert found.owners[("backbone", "tiny")] == "good"
    assert found.plugins == (registry.Plugin("good", "1.2", "good_module"),)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("@hookimpl\ndef oneformer_backbone():\n    return []", "unknown hook 'oneformer_backbone'; did you mean"),
        ("@hookimpl\ndef oneformer_backbones(size):\n    return []", "takes no argument, found (size)"),
        ("def oneformer_backbones():\n    return []", "oneformer_backbones lacks @hookimpl"),
        ("def hooks():\n    return []", "it implements no hook; a hook's function carries @hookimpl"),
        (
            returning("Backbone('a', 'b:c', 'd:e')").replace("return", "yield"),
            "found a generator; put its items",
        ),
        (returning("None"), "must return a list of Backbone, found None"),
        (returning("Backbone('a', 'b:c', 'd:e')"), "found one Backbone that is not in a list"),
        (returning("[Backbone('', 'b:c', 'd:e')]"), "has the name ''"),
        (returning("[Backbone('a.b', 'b:c', 'd:e')]"), "has the name 'a.b'"),
        (returning("[Backbone(3, 'b:c', 'd:e')]"), "has the name 3"),
        (returning("[Backbone('a', '', 'd:e')]"), "its target is ''"),
        (returning("[Backbone('a', 'b', 'd:e')]"), "its target is 'b', expected 'module:attribute'"),
        (returning("[Backbone('a', 'b:c', 'd')]"), "its options is 'd', expected 'module:attribute'"),
        (returning("[Backbone('type', 'b:c', 'd:e')]"), "cannot be named 'type', which is a field of the spec"),
        (returning("[Runtime('a', 'b:c', ('x',))]"), "hold 'x', which does not begin with a dot; write '.x'"),
        (returning("[Runtime('a', 'b:c', '.x')]"), "its suffixes are '.x', expected a tuple such as"),
        (returning("[Command('a', 'b:c', 'A.', 'verb')]"), "its kind is 'verb'"),
        (returning("[Command('a', 'b:c', None)]"), "its summary is None"),
        (returning("[Command('a', 'b:c', 'A.', flags=(Flag('debug', ''),))]"), "a flag cannot be named 'debug'"),
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
    assert first.startswith("plugin abroken 1.2 (abroken_module) does not load and is left out: ")
    assert second.startswith("plugin zbroken 1.2 (zbroken_module) does not load and is left out: ")
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


def test_a_name_of_ours_stays_ours_and_costs_the_other_one_line(install):
    found = install(first=CLAIM, good=GOOD)
    assert "swin" not in found.backbones
    assert found.warnings == (
        "the backbone 'swin' of plugin first 1.2 is left out: the name is ours; python -m pip uninstall first",
    )
    assert "tiny" in found.backbones


def test_a_verb_of_ours_that_is_not_installed_is_nobody_elses(install):
    text = """
        @hookimpl
        def oneformer_commands():
            return [Command("train", "a:b", "Train.")]
    """
    found = install(first=text)
    assert found.commands == {}
    with pytest.raises(UsageError, match="python -m pip install 'oneformer-train'"):
        found.command("train")


def test_of_two_others_that_claim_one_name_neither_has_it_and_only_its_use_is_an_error(install, monkeypatch):
    claim = CLAIM.replace("swin", "moss")
    found = install(first=claim, second=claim, good=GOOD)
    line = (
        "two plugins claim the backbone 'moss', which neither gets: first 1.2 and second 1.2; "
        "python -m pip uninstall second"
    )
    assert found.warnings == (line,)
    assert list(found.backbones) == ["tiny"]
    monkeypatch.setattr(registry, "registry", lambda: found)
    monkeypatch.setattr(entries, "registry", lambda: found)
    with pytest.raises(SpecError) as caught:
        entries.target_of("backbone", "moss")
    assert str(caught.value) == line


@pytest.mark.parametrize("kind", ["command", "quantizer", "runtime"])
def test_looking_up_a_name_that_two_claim_names_both(install, kind):
    arguments = {"command": '"Moss."', "quantizer": '"a:b"', "runtime": '(".moss",)'}
    text = f"""
        @hookimpl
        def oneformer_{kind}s():
            return [{kind.title()}("moss", "a:b", {arguments[kind]})]
    """
    found = install(first=text, second=text)
    look = {"command": found.command, "quantizer": found.quantizer, "runtime": partial(found.runtime, "m.moss")}
    with pytest.raises(UsageError, match=f"^two plugins claim the {kind} 'moss'"):
        look[kind]("moss")


RUNTIMES = """
    @hookimpl
    def oneformer_runtimes():
        return [Runtime(__name__, "a:b", ({},))]
"""


def test_a_suffix_that_two_runtimes_claim_needs_the_runtimes_name(install):
    found = install(first=RUNTIMES.format("'.x'"), second=RUNTIMES.format("'.X', '.y'"))
    (line,) = found.warnings
    assert line.startswith("two plugins claim the suffix '.x', which neither gets: first 1.2 and second 1.2; ")
    with pytest.raises(UsageError) as caught:
        found.runtime("m.x")
    assert str(caught.value) == line
    assert found.runtime("m.x", "first_module").name == "first_module"
    assert found.runtime("m.y").name == "second_module"


def test_a_suffix_of_ours_stays_ours(install):
    found = install(first=RUNTIMES.format("'.pth'"))
    assert found.warnings == (
        "the runtime 'first_module' of plugin first 1.2 runs .pth files only where the spec names it",
    )
    with pytest.raises(UsageError, match="python -m pip install 'oneformer-model'"):
        found.runtime("m.pth")
    assert found.runtime("m.pth", "first_module").name == "first_module"


def test_the_names_that_sections_of_the_spec_leave_to_plugins():
    """A backbone's options stand beside the fields of its section, a command's beside the sections of the spec."""
    ours = {option for name in builtins.oneformer_backbones() for option in (name.name,)}
    backbone = set(spec_tree().children["model"].children["backbone"].children) - ours
    assert discovery.RESERVED["backbone"] == backbone | {"name"}  # an older spelling of type
    assert discovery.RESERVED["command"] | {*packages.VERB_PACKAGES} >= set(spec_tree().children)


@pytest.mark.parametrize(
    ("selection", "names"), [(None, ["first", "second"]), ("", []), ("Second", ["second"]), (" first, gone", ["first"])]
)
def test_a_variable_selects_plugins_by_their_distribution(install, selection, names):
    claim = CLAIM.replace("'swin'", "__name__").replace('"swin"', "__name__")
    install(first=claim, second=claim)
    found = registry.load(importlib.metadata.entry_points(group="oneformer"), selection)
    assert [name for name in found.backbones if name.endswith("_module")] == [f"{name}_module" for name in names]
    assert "swin" in found.backbones
    gone = ("ONEFORMER_PLUGINS names gone, which has no plugin here",) if "gone" in (selection or "") else ()
    assert found.warnings == gone


def test_what_it_prints_while_it_loads_goes_to_stderr(install, capsys):
    install(chatty="print('welcome')\n" + textwrap.dedent(GOOD))
    registry.resolve("chatty_module:hookimpl")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "welcome\n")


def test_a_slow_one_is_noted_with_its_seconds(install):
    found = install(slow="import time\ntime.sleep(0.6)\n" + textwrap.dedent(GOOD))
    (note,) = found.notes
    assert re.match(r"plugin slow 1\.2 takes 0\.\d s to load at every command; slow_module should import nothing", note)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("oneformer-spec>=0.2,<0.3", True),
        ("oneformer_spec (>=0.2)", True),
        ("oneformer-spec~=0.2.0", True),
        ("oneformer-spec>=9", False),
        ("oneformer-spec<0.2", False),
        ("oneformer-spec==0.1.*", False),
        ("oneformer-spec==0.2.*", True),
        ("numpy>=99", True),
        ("oneformer-spec>=9; extra == 'all'", True),
    ],
)
def test_requirements_on_our_packages_that_are_not_met_are_noted(requirement, met):
    plugin = discovery.Plugin("fern", "1.2", "fern_module", requires=packages.requirements_on_us([requirement]))
    notes = list(plugin.notes())
    assert (notes == []) == met
    if not met:
        (note,) = notes
        assert note.startswith(f"plugin fern 1.2: it requires {requirement}, ")
        assert note.endswith(f"python -m pip install '{requirement}'")


def test_one_name_in_two_kinds_is_no_clash(install):
    text = """
        @hookimpl
        def oneformer_evaluators():
            return [Evaluator("tiny", "a:b", "semantic")]
    """
    found = install(good=GOOD, other=text)
    assert "tiny" in found.backbones
    assert "tiny" in found.evaluators


@pytest.mark.parametrize(("verb", "package"), packages.VERB_PACKAGES.items())
def test_a_missing_verb_names_the_pip_command(verb, package):
    with pytest.raises(UsageError) as caught:
        registry.Registry().command(verb)
    assert str(caught.value) == f"{verb} is not installed here; install it with: python -m pip install '{package}'"


def test_an_unknown_verb_lists_the_known_ones():
    known = registry.Registry(commands={name: Command(name, "a:b", "") for name in ("train", "export")})
    with pytest.raises(UsageError, match=r"^no command 'trian'; installed: export, train$"):
        known.command("trian")


@pytest.mark.parametrize(("suffix", "package"), packages.SUFFIX_PACKAGES.items())
def test_a_missing_runtime_names_the_pip_command(suffix, package):
    with pytest.raises(UsageError) as caught:
        registry.Registry().runtime(f"out/model{suffix}")
    assert str(caught.value) == f"out/model{suffix}: running a {suffix} file needs: python -m pip install '{package}'"


@pytest.mark.parametrize(("name", "package"), packages.RUNTIME_PACKAGES.items())
def test_a_missing_runtime_that_is_named_gives_the_pip_command(name, package):
    with pytest.raises(UsageError) as caught:
        registry.Registry().runtime("model.onnx", name)
    assert str(caught.value) == (
        f"runtime {name!r} is not installed here; install it with: python -m pip install '{package}'"
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
    assert set(found.owners.values()) == {"oneformer-spec"}
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
        "the evaluator 'edge_score' of scores is left out: "
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


def test_a_package_of_ours_that_a_plugin_requires_and_is_not_installed_is_noted(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", missing)
    assert packages.unmet(["oneformer-train>=0.2"]) == (
        "it requires oneformer-train>=0.2, which is not installed: python -m pip install 'oneformer-train>=0.2'",
    )
