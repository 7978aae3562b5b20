"""Find what is installed: entry points are loaded one by one, so a broken plugin costs one warning and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import pluggy

from oneformer_spec.errors import OneFormerError, PluginError, UsageError
from oneformer_spec.hooks import (
    GROUP,
    Backbone,
    Callback,
    Command,
    Dataset,
    Evaluator,
    Hooks,
    Logger,
    Loss,
    Quantizer,
    Runtime,
    Task,
    Transform,
)
from oneformer_spec.tasks import TASKS

# Which distribution brings a verb, a runtime or a suffix, so that its absence can name the cure.
VERB_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "train": "oneformer-train",
        "evaluate": "oneformer-data",
        "score": "oneformer-data",
        "dataset": "oneformer-data",
        "inference": "oneformer-deploy",
        "info": "oneformer-deploy",
        "gen_trt_engine": "oneformer-deploy[tensorrt]",
        "quantize": "oneformer-deploy[quantize]",
        "export": "oneformer-model[onnx]",
        "convert": "oneformer-model",
        "model-info": "oneformer-model",
    }
)
RUNTIME_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "torch": "oneformer-model",
        "onnxruntime": "oneformer-deploy",
        "onnxruntime-tensorrt": "oneformer-deploy",
        "openvino": "oneformer-deploy[openvino]",
        "tensorrt": "oneformer-deploy[tensorrt]",
    }
)
QUANTIZER_PACKAGES: Mapping[str, str] = MappingProxyType(
    {"onnxruntime": "oneformer-deploy[quantize]", "torchao": "oneformer-model[quantize]"}
)
SUFFIX_PACKAGES: Mapping[str, str] = MappingProxyType(
    {".pth": "oneformer-model", ".onnx": "oneformer-deploy", ".engine": "oneformer-deploy[tensorrt]"}
)
OURS = frozenset(f"oneformer-{part}" for part in ("spec", "data", "model", "train", "deploy", "cli"))
"""The distributions of this project."""
FOREIGN = ("", ".bin", ".pkl", ".safetensors")
"""Suffixes of weights of other projects; a folder has none."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


# Each kind of declaration: the hook that returns it (`oneformer_` and the registry's field), and its class.
_KINDS: Mapping[str, tuple[str, type[_Named]]] = MappingProxyType(
    {
        "command": ("oneformer_commands", Command),
        "backbone": ("oneformer_backbones", Backbone),
        "dataset": ("oneformer_datasets", Dataset),
        "task": ("oneformer_tasks", Task),
        "evaluator": ("oneformer_evaluators", Evaluator),
        "quantizer": ("oneformer_quantizers", Quantizer),
        "runtime": ("oneformer_runtimes", Runtime),
        "transform": ("oneformer_transforms", Transform),
        "loss": ("oneformer_losses", Loss),
        "callback": ("oneformer_callbacks", Callback),
        "logger": ("oneformer_loggers", Logger),
    }
)


@dataclass(frozen=True)
class Plugin:
    """One entry point: the distribution that ships it, its module, and why it failed (None: it works)."""

    distribution: str
    version: str
    module: str
    failure: str | None = None


@dataclass(frozen=True)
class Registry:
    """Everything that installed plugins declare, by name."""

    commands: Mapping[str, Command] = field(default_factory=dict)
    backbones: Mapping[str, Backbone] = field(default_factory=dict)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    evaluators: Mapping[str, Evaluator] = field(default_factory=dict)
    quantizers: Mapping[str, Quantizer] = field(default_factory=dict)
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    transforms: Mapping[str, Transform] = field(default_factory=dict)
    losses: Mapping[str, Loss] = field(default_factory=dict)
    callbacks: Mapping[str, Callback] = field(default_factory=dict)
    loggers: Mapping[str, Logger] = field(default_factory=dict)
    plugins: tuple[Plugin, ...] = ()
    refused: tuple[str, ...] = ()
    owners: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def table(self, kind: str) -> Mapping[str, Any]:
        """Return the declarations of a kind, such as "backbone", by name."""
        found: Mapping[str, Any] = getattr(self, _KINDS[kind][0].removeprefix("oneformer_"))
        return found

    def foreign_owner(self, kind: str, name: str) -> str:
        """Return the distribution with its version that declares a name; empty where it is ours, or nobody does."""
        distribution = self.owners.get((kind, name), "").partition(":")[0]
        versions = {plugin.distribution: plugin.version for plugin in self.plugins}
        return "" if distribution in OURS else f"{distribution} {versions.get(distribution, '')}".strip()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line per broken plugin, and per declaration that cannot be used."""
        broken = (
            f"plugin {plugin.distribution} ({plugin.module}) does not load and is left out: {plugin.failure}"
            for plugin in self.plugins
            if plugin.failure is not None
        )
        return (*broken, *self.refused)

    def command(self, name: str) -> Command:
        """Return a verb; its absence names the package that brings it.

        Raises:
            UsageError: No installed plugin has the verb.
        """
        if name in self.commands:
            return self.commands[name]
        package = VERB_PACKAGES.get(name)
        if package is None:
            raise UsageError(f"no command {name!r}; installed: {', '.join(sorted(self.commands))}")
        raise UsageError(f"{name} is not installed here; get it with: python -m pip install '{package}'")

    def quantizer(self, name: str) -> Quantizer:
        """Return the library that `quantize.backend` names; its absence names the package that brings it.

        Raises:
            UsageError: No installed plugin has it.
        """
        if name in self.quantizers:
            return self.quantizers[name]
        package = QUANTIZER_PACKAGES[name]
        raise UsageError(f"quantize.backend: {name} needs: python -m pip install '{package}'")

    def runtime(self, path: str | Path, name: str | None = None) -> Runtime:
        """Return the runtime of a name, or else the one that a model file's suffix chooses.

        Raises:
            UsageError: There is no such runtime here, or none that reads that suffix.
        """
        suffix = Path(path).suffix.lower()
        if name is not None:
            return self._named_runtime(path, suffix, name)
        for runtime in self.runtimes.values():
            if suffix in runtime.suffixes:
                return runtime
        package = SUFFIX_PACKAGES.get(suffix)
        if package is not None:
            raise UsageError(f"{path}: running a {suffix} file needs: python -m pip install '{package}'")
        known = sorted(suffix for runtime in self.runtimes.values() for suffix in runtime.suffixes)
        cure = f"; convert it first: oneformer convert {path} model.pth" if suffix in FOREIGN else ""
        raise UsageError(
            f"{path}: no runtime for the suffix {suffix!r}; known here: {', '.join(known) or 'none'}{cure}"
        )

    def _named_runtime(self, path: str | Path, suffix: str, name: str) -> Runtime:
        if name not in self.runtimes:
            package, known = RUNTIME_PACKAGES.get(name), ", ".join(self.runtimes) or "none"
            cure = f"get it with: python -m pip install '{package}'" if package else f"there are {known}"
            raise UsageError(f"runtime {name!r} is not installed here; {cure}")
        runtime = self.runtimes[name]
        if suffix not in (*runtime.suffixes, *runtime.also):
            reads = ", ".join((*runtime.suffixes, *runtime.also))
            raise UsageError(f"{path}: the runtime {name} reads {reads}, not {suffix!r}")
        return runtime


def resolve(target: str) -> Any:
    """Import "module:attribute" and return the attribute.

    Raises:
        PluginError: The module fails to import, or has no such attribute.
    """
    module_name, _, attribute = target.partition(":")
    if not (module_name and attribute):
        raise PluginError(f"{target!r}: a target is written 'module:attribute'")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except OneFormerError:
        raise
    except Exception as error:  # whatever a plugin's module raises
        raise PluginError(f"{target}: cannot be loaded: {_one_line(error)}") from error


@cache
def registry() -> Registry:
    """Return what is installed in this environment."""
    return load(entry_points(group=GROUP))


def foreign_owner(kind: str, name: str) -> str:
    """Return the distribution with its version that declares a name; empty where it is ours, or nobody does."""
    return registry().foreign_owner(kind, name)


def declarations(kind: str) -> Mapping[str, Any]:
    """Return the declarations of a kind, such as "backbone", by name: those built in, then the installed ones."""
    from oneformer_spec.plugins import builtins

    hook = getattr(builtins, _KINDS[kind][0], None)
    ours = {declaration.name: declaration for declaration in hook()} if hook is not None else {}
    return ours | {name: declared for name, declared in registry().table(kind).items() if name not in ours}


def load(found: Iterable[EntryPoint]) -> Registry:
    """Load entry points one by one and collect their declarations.

    Raises:
        PluginError: Two plugins claim one name, or one suffix; the message names both.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Hooks)
    plugins: list[Plugin] = []
    owners: dict[tuple[str, str], str] = {}
    suffix_owners: dict[tuple[str, str], str] = {}
    tables: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    for point in sorted(found, key=lambda point: (point.name, point.value)):
        plugin, owner, declarations = _read(manager, point)
        plugins.append(plugin)
        for kind, declaration in declarations:
            _claim(owners, kind, declaration.name, owner)
            tables[kind][declaration.name] = declaration
            for suffix in declaration.suffixes if isinstance(declaration, Runtime) else ():
                _claim(suffix_owners, "suffix", suffix.lower(), owner)
    refused = _refuse_evaluators(tables["evaluator"], (*TASKS, *tables["task"]), owners)
    return Registry(
        **{_KINDS[kind][0].removeprefix("oneformer_"): dict(sorted(table.items())) for kind, table in tables.items()},
        plugins=tuple(plugins),
        refused=refused,
        owners=owners,
    )


def _refuse_evaluators(
    evaluators: dict[str, Evaluator], tasks: Collection[str], owners: Mapping[tuple[str, str], str]
) -> tuple[str, ...]:
    """Take out the evaluators whose task no plugin declares; return a line for each."""
    unknown = {name: evaluators.pop(name).task for name in sorted(evaluators) if evaluators[name].task not in tasks}
    known = ", ".join(dict.fromkeys(map(str, tasks)))
    return tuple(
        f"the evaluator {name!r} of {owners[('evaluator', name)]} is left out: "
        f"no task {task!r} is installed; available: {known}"
        for name, task in unknown.items()
    )


def _claim(owners: dict[tuple[str, str], str], kind: str, name: str, owner: str) -> None:
    other = owners.setdefault((kind, name), owner)
    if other != owner:
        raise PluginError(f"two plugins claim the {kind} {name!r}: {other} and {owner}")


def _read(manager: pluggy.PluginManager, point: EntryPoint) -> tuple[Plugin, str, list[tuple[str, _Named]]]:
    """Return a plugin, the name it goes by, and its declarations with their kinds; none of them when anything fails."""
    distribution = point.dist.name if point.dist is not None else "unknown distribution"
    plugin = Plugin(distribution, point.dist.version if point.dist is not None else "", point.value)
    name = f"{distribution}:{point.name}"
    try:
        manager.register(point.load(), name=name)
        manager.check_pending()
        return plugin, name, _declarations(manager, name)
    except (Exception, SystemExit) as error:  # whatever a plugin raises, the others must go on
        if manager.has_plugin(name):
            manager.unregister(name=name)
        return replace(plugin, failure=_one_line(error)), name, []


def _declarations(manager: pluggy.PluginManager, name: str) -> list[tuple[str, _Named]]:
    """Call a plugin's hooks; raises TypeError or ValueError where they break the contract."""
    callers = manager.get_hookcallers(manager.get_plugin(name))
    if not callers:
        raise TypeError("it implements no hook; a hook's function carries @hookimpl")
    found: list[tuple[str, _Named]] = []
    for kind, (hook, expected) in _KINDS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == name:
                found += [(kind, declaration) for declaration in _checked(implementation.function(), hook, expected)]
    for index, (kind, declaration) in enumerate(found):
        if any(kind == other_kind and declaration.name == other.name for other_kind, other in found[:index]):
            raise ValueError(f"it declares the {kind} {declaration.name!r} twice")
    return found


def _checked(declarations: object, hook: str, expected: type[_Named]) -> list[_Named]:
    if not isinstance(declarations, list | tuple):
        raise TypeError(f"{hook} must return a list of {expected.__name__}, found {declarations!r}")
    for declaration in declarations:
        if not isinstance(declaration, expected):
            raise TypeError(f"{hook} must return a list of {expected.__name__}, found {declaration!r} in it")
    return list(declarations)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
