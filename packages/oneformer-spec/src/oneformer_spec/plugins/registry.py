"""What is installed, by kind and name: declarations of plugins, whom they belong to, and what two plugins claim."""

from __future__ import annotations

import importlib
import os
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from oneformer_spec.errors import OneFormerError, PluginError, UsageError
from oneformer_spec.hooks import (
    GROUP,
    Backbone,
    Callback,
    Command,
    Dataset,
    Evaluator,
    Logger,
    Loss,
    Quantizer,
    Runtime,
    Task,
    Transform,
)
from oneformer_spec.plugins.discovery import KINDS, Found, Plugin, claims, one_line, read
from oneformer_spec.plugins.packages import (
    OURS,
    QUANTIZER_PACKAGES,
    RUNTIME_PACKAGES,
    SUFFIX_PACKAGES,
    VERB_PACKAGES,
    normalised,
)
from oneformer_spec.tasks import TASKS

SELECTION = "ONEFORMER_PLUGINS"
"""Variable that names the distributions whose plugins are loaded, separated by commas; empty loads ours alone."""
FOREIGN = ("", ".bin", ".pkl", ".safetensors")
"""Suffixes of weights of other projects; a folder has none."""


@dataclass(frozen=True)
class Registry:
    """Everything that installed plugins declare, by name.

    `refused` are lines on what is left out, `owners` the distribution by kind and name, `clashes` the line on a name or
    suffix that two plugins claim.
    """

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
    clashes: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def table(self, kind: str) -> Mapping[str, Any]:
        """Return the declarations of a kind, such as "backbone", by name."""
        found: Mapping[str, Any] = getattr(self, _field(kind))
        return found

    def owner(self, kind: str, name: str) -> Plugin | None:
        """Return the plugin that declares a name; None where it is ours, or nobody does."""
        distribution = self.owners.get((kind, name))
        found = (plugin for plugin in self.plugins if plugin.distribution == distribution and not plugin.is_ours)
        return next(found, None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line per broken plugin, and per declaration that cannot be used."""
        broken = (
            f"plugin {plugin.label} ({plugin.module}) does not load and is left out: {plugin.failure}"
            for plugin in self.plugins
            if plugin.failure is not None
        )
        return (*broken, *self.refused)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line per plugin that works and is slow, or was made for other versions of our packages."""
        return tuple(
            dict.fromkeys(note for plugin in self.plugins if plugin.failure is None for note in plugin.notes())
        )

    def command(self, name: str) -> Command:
        """Return a verb; its absence names the package that brings it.

        Raises:
            UsageError: No installed plugin has the verb.
        """
        if name in self.commands:
            return self.commands[name]
        self._refuse_clash("command", name)
        package = VERB_PACKAGES.get(name)
        if package is None:
            raise UsageError(f"no command {name!r}; installed: {', '.join(sorted(self.commands))}")
        raise UsageError(f"{name} is not installed here; install it with: python -m pip install '{package}'")

    def quantizer(self, name: str) -> Quantizer:
        """Return the library that `quantize.backend` names; its absence names the package that brings it.

        Raises:
            UsageError: No installed plugin has it.
        """
        if name in self.quantizers:
            return self.quantizers[name]
        self._refuse_clash("quantizer", name)
        package = QUANTIZER_PACKAGES.get(name)
        if package is None:
            raise UsageError(f"quantize.backend: {name!r} is not installed; available: {', '.join(self.quantizers)}")
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
        self._refuse_clash("suffix", suffix)
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
            self._refuse_clash("runtime", name)
            package, known = RUNTIME_PACKAGES.get(name), ", ".join(self.runtimes) or "none"
            cure = f"install it with: python -m pip install '{package}'" if package else f"there are {known}"
            raise UsageError(f"runtime {name!r} is not installed here; {cure}")
        runtime = self.runtimes[name]
        if suffix not in (*runtime.suffixes, *runtime.also):
            reads = ", ".join((*runtime.suffixes, *runtime.also))
            raise UsageError(f"{path}: the runtime {name} reads {reads}, not {suffix!r}")
        return runtime

    def _refuse_clash(self, kind: str, name: str) -> None:
        if (kind, name) in self.clashes:
            raise UsageError(self.clashes[kind, name])


def resolve(target: str) -> Any:
    """Import "module:attribute" and return the attribute; what the import prints goes to stderr.

    Raises:
        PluginError: The module fails to import, or has no such attribute.
    """
    module_name, _, attribute = target.partition(":")
    if not (module_name and attribute):
        raise PluginError(f"{target!r}: a target is written 'module:attribute'")
    try:
        with redirect_stdout(sys.stderr):  # stdout belongs to the command
            return getattr(importlib.import_module(module_name), attribute)
    except OneFormerError:
        raise
    except (Exception, SystemExit) as error:  # whatever a plugin's module raises
        raise PluginError(f"{target}: cannot be loaded: {one_line(error)}") from error


@cache
def registry() -> Registry:
    """Return what is installed in this environment, or the part of it that ONEFORMER_PLUGINS names."""
    return load(entry_points(group=GROUP), os.environ.get(SELECTION))


def owner(kind: str, name: str) -> Plugin | None:
    """Return the plugin that declares a name; None where it is ours, or nobody does."""
    return registry().owner(kind, name)


def declarations(kind: str) -> Mapping[str, Any]:
    """Return the declarations of a kind, such as "backbone", by name: those built in, then the installed ones."""
    ours = _built_in(kind)
    return ours | {name: declared for name, declared in registry().table(kind).items() if name not in ours}


def load(found: Iterable[EntryPoint], selection: str | None = None) -> Registry:
    """Load entry points one by one and collect their declarations.

    Args:
        found: The entry points of the group "oneformer".
        selection: Distributions whose plugins are loaded beside ours, separated by commas; None loads all.
    """
    points = list(found)
    chosen, refused = _selected(points, selection)
    plugins = read(chosen)
    tables: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    owners: dict[tuple[str, str], str] = {}
    clashes: dict[tuple[str, str], str] = {}
    for (kind, name), claimed in claims(plugins).items():
        ours = [(plugin, declaration) for plugin, declaration in claimed if plugin.is_ours]
        rivals = ours or claimed
        if len(rivals) > 1:
            clashes[kind, name] = _clash(kind, name, [plugin for plugin, _ in rivals])
        elif ours or not _is_reserved(kind, name):
            plugin, tables[kind][name] = rivals[0]
            owners[kind, name] = plugin.distribution
        if ours or _is_reserved(kind, name):
            refused += [_ours_wins(kind, name, plugin) for plugin, _ in claimed if not plugin.is_ours]
    refused += _refuse_evaluators(tables["evaluator"], (*TASKS, *tables["task"]), owners)
    refused += _settle_suffixes(tables["runtime"], plugins, clashes)
    return Registry(
        **{_field(kind): dict(sorted(table.items())) for kind, table in tables.items()},
        plugins=plugins.plugins,
        refused=(*refused, *clashes.values()),
        owners=owners,
        clashes=clashes,
    )


def _selected(points: list[EntryPoint], selection: str | None) -> tuple[list[EntryPoint], list[str]]:
    """Return the entry points to load, and a line per selected distribution that has none."""
    if selection is None:
        return points, []
    wanted = {normalised(name.strip()) for name in selection.split(",") if name.strip()}
    names = {normalised(point.dist.name) for point in points if point.dist is not None}
    chosen = [point for point in points if point.dist is not None and normalised(point.dist.name) in wanted | OURS]
    return chosen, [f"{SELECTION} names {name}, which has no plugin here" for name in sorted(wanted - names)]


def _clash(kind: str, name: str, plugins: list[Plugin]) -> str:
    labels = " and ".join(dict.fromkeys(plugin.label for plugin in plugins))
    remove = plugins[-1].distribution
    return f"two plugins claim the {kind} {name!r}, which neither gets: {labels}; python -m pip uninstall {remove}"


def _ours_wins(kind: str, name: str, plugin: Plugin) -> str:
    return (
        f"the {kind} {name!r} of plugin {plugin.label} is left out: the name is ours; "
        f"python -m pip uninstall {plugin.distribution}"
    )


def _settle_suffixes(runtimes: dict[str, Runtime], found: Found, clashes: dict[tuple[str, str], str]) -> list[str]:
    """Take a suffix that several runtimes claim from all but ours; a spec can still name them for such files."""
    owners = {runtime.name: plugin for plugin, runtime in _runtimes(found)}
    claimed: dict[str, list[str]] = defaultdict(list)
    for name, runtime in runtimes.items():
        for suffix in dict.fromkeys(suffix.lower() for suffix in runtime.suffixes):
            claimed[suffix].append(name)
    refused = []
    for suffix, names in claimed.items():
        ours = [name for name in names if owners[name].is_ours]
        others = [name for name in names if name not in ours]
        if others and (ours or suffix in SUFFIX_PACKAGES):
            refused += [
                f"the runtime {name!r} of plugin {owners[name].label} runs {suffix} files only where the spec names it"
                for name in others
            ]
        elif len(names) > 1:
            clashes["suffix", suffix] = _clash("suffix", suffix, [owners[name] for name in names])
        else:
            continue
        for name in others:
            kept = tuple(other for other in runtimes[name].suffixes if other.lower() != suffix)
            runtimes[name] = replace(runtimes[name], suffixes=kept, also=(*runtimes[name].also, suffix))
    return refused


def _runtimes(found: Found) -> Iterator[tuple[Plugin, Runtime]]:
    for number, _, declaration in found.declarations:
        if isinstance(declaration, Runtime):
            yield found.plugins[number], declaration


def _refuse_evaluators(
    evaluators: dict[str, Evaluator], tasks: Collection[str], owners: Mapping[tuple[str, str], str]
) -> list[str]:
    """Take out the evaluators whose task no plugin declares; return a line for each."""
    unknown = {name: evaluators.pop(name).task for name in sorted(evaluators) if evaluators[name].task not in tasks}
    known = ", ".join(dict.fromkeys(map(str, tasks)))
    return [
        f"the evaluator {name!r} of {owners['evaluator', name]} is left out: "
        f"no task {task!r} is installed; available: {known}"
        for name, task in unknown.items()
    ]


def _is_reserved(kind: str, name: str) -> bool:
    """Return whether a name is ours although the package that brings it may not be installed."""
    packages = {"command": VERB_PACKAGES, "runtime": RUNTIME_PACKAGES, "quantizer": QUANTIZER_PACKAGES}
    return name in packages.get(kind, ()) or name in _built_in(kind)


def _built_in(kind: str) -> dict[str, Any]:
    from oneformer_spec.plugins import builtins

    hook = getattr(builtins, KINDS[kind][0], None)
    return {declaration.name: declaration for declaration in hook()} if hook is not None else {}


def _field(kind: str) -> str:
    return KINDS[kind][0].removeprefix("oneformer_")
