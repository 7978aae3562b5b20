"""Load the entry points of plugins one by one, so that a broken one costs one line and nothing else."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Any, Protocol

from oneformer_spec.errors import PluginError
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
from oneformer_spec.plugins.packages import OURS, normalised, requirements_on_us, unmet

SLOW = 0.5  # seconds that a plugin's module may take to load before a note says so


class Named(Protocol):
    """A declaration."""

    @property
    def name(self) -> str:
        """What specs and command lines call it."""


KINDS: Mapping[str, tuple[str, type[Named]]] = MappingProxyType(
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
"""Each kind of declaration: the hook that returns it, and its class."""

# Fields beside which the sections of a kind stand: no declaration with options may have their names.
RESERVED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "backbone": frozenset(("type", "name", "freeze_at", "pretrained_weights", "class_options")),
        "command": frozenset(("model_name", "encryption_key", "results_dir", "wandb", "model", "dataset", "runtimes")),
    }
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SUFFIX = re.compile(r"\.[A-Za-z0-9_.+-]+")
_TARGETS = ("target", "targets")  # the fields of declarations that must hold "module:attribute"
_MARK = f"{GROUP}_impl"  # what @hookimpl leaves on a function
_FLAGS_TAKEN = ("overrides", "experiment_spec", "debug", "help")


@dataclass(frozen=True)
class Plugin:
    """One entry point: the distribution that ships it, its module, and why it failed (None: it works).

    `seconds` is how long its module took to load, `requires` what its distribution requires of this project's packages.
    """

    distribution: str
    version: str
    module: str
    failure: str | None = None
    seconds: float = field(default=0.0, compare=False)
    requires: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def is_ours(self) -> bool:
        """Whether it belongs to this project."""
        return normalised(self.distribution) in OURS

    def notes(self) -> Iterator[str]:
        """Yield what a user should know of it although it works."""
        if self.seconds > SLOW:
            yield (
                f"plugin {self.label} takes {self.seconds:.1f} s to load at every command; {self.module} should import "
                "nothing heavy, its targets may"
            )
        for problem in () if self.is_ours else unmet(self.requires):
            yield f"plugin {self.label}: {problem}"


@dataclass(frozen=True)
class Found:
    """What entry points brought: plugins, and declarations with the number of their plugin."""

    plugins: tuple[Plugin, ...]
    declarations: tuple[tuple[int, str, Named], ...]


def read(points: Iterable[EntryPoint]) -> Found:
    """Load entry points in the order of their names; whatever one of them does, the others are read."""
    plugins: list[Plugin] = []
    declarations: list[tuple[int, str, Named]] = []
    for number, point in enumerate(sorted(points, key=lambda point: (point.name, point.value))):
        plugin, found = _read(point)
        plugins.append(plugin)
        declarations += [(number, kind, declaration) for kind, declaration in found]
    return Found(tuple(plugins), tuple(declarations))


def claims(found: Found) -> dict[tuple[str, str], list[tuple[Plugin, Any]]]:
    """Return who declares what: plugins and their declarations by kind and name."""
    table: dict[tuple[str, str], list[tuple[Plugin, Any]]] = defaultdict(list)
    for number, kind, declaration in found.declarations:
        table[kind, declaration.name].append((found.plugins[number], declaration))
    return table


def one_line(error: BaseException) -> str:
    """Return an error as one line: its type and message, or the message alone of an error of ours."""
    text = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _read(point: EntryPoint) -> tuple[Plugin, list[tuple[str, Named]]]:
    """Return a plugin and its declarations with their kinds; none of them when anything fails."""
    distribution = point.dist
    plugin = Plugin(
        distribution.name if distribution is not None else "unknown distribution",
        distribution.version if distribution is not None else "",
        point.value,
        requires=requirements_on_us(distribution.requires if distribution is not None else None),
    )
    start = time.perf_counter()
    try:
        with redirect_stdout(sys.stderr):  # stdout belongs to the command
            found = _declarations(point.load())
    except (Exception, SystemExit) as error:  # whatever a plugin raises, the others must go on
        reason = "; ".join([one_line(error), *(() if plugin.is_ours else unmet(plugin.requires))])
        return replace(plugin, failure=reason, seconds=time.perf_counter() - start), []
    return replace(plugin, seconds=time.perf_counter() - start), found


def _declarations(module: Any) -> list[tuple[str, Named]]:
    """Call a plugin's hooks.

    Raises:
        PluginError: They break the contract.
    """
    hooks = _hooks(module)
    found: list[tuple[str, Named]] = []
    for kind, (hook, expected) in KINDS.items():
        if hook in hooks:
            found += [(kind, declaration) for declaration in _checked(hooks[hook](), hook, expected)]
    seen: set[tuple[str, str]] = set()
    for kind, declaration in found:
        _check_declaration(kind, declaration)
        if (kind, declaration.name) in seen:
            raise PluginError(f"it declares the {kind} {declaration.name!r} twice")
        seen.add((kind, declaration.name))
    return found


def _hooks(module: Any) -> dict[str, Any]:
    """Return the functions that carry @hookimpl, by the hook that they implement."""
    known = [name for name in vars(Hooks) if name.startswith("oneformer_")]
    found: dict[str, Any] = {}
    for name in dir(module):
        function = getattr(module, name, None)
        marks = getattr(function, _MARK, None)
        if marks is None or not callable(function):
            if inspect.isfunction(function) and name in known:
                raise PluginError(f"{name} lacks @hookimpl")
            continue
        hook = marks.get("specname") or name
        if hook not in known:
            close = difflib.get_close_matches(hook, known, 1)
            raise PluginError(f"unknown hook {hook!r}" + (f"; did you mean {close[0]}?" if close else ""))
        if parameters := inspect.signature(function).parameters:
            raise PluginError(f"{name} takes no argument, found ({', '.join(parameters)})")
        found[hook] = function
    if not found:
        raise PluginError(
            f"it implements no hook; a hook's function carries @hookimpl, and is one of {', '.join(known)}"
        )
    return found


def _checked(declarations: object, hook: str, expected: type[Named]) -> list[Named]:
    wanted = f"{hook} must return a list of {expected.__name__}"
    if isinstance(declarations, expected):
        raise PluginError(f"{wanted}, found one {expected.__name__} that is not in a list")
    if inspect.isgenerator(declarations):
        raise PluginError(f"{wanted}, found a generator; put its items in a list")
    if not isinstance(declarations, list | tuple):
        raise PluginError(f"{wanted}, found {declarations!r}")
    for declaration in declarations:
        if not isinstance(declaration, expected):
            raise PluginError(f"{wanted}, found {declaration!r} in it")
    return list(declarations)


def _check_declaration(kind: str, declaration: Any) -> None:
    """Raise PluginError where a declaration cannot be used whatever its target does."""
    name = declaration.name
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise PluginError(f"the {kind} has the name {name!r}; a name has letters, digits, - and _")
    if getattr(declaration, "options", None) is not None and name in RESERVED.get(kind, ()):
        raise PluginError(f"the {kind} cannot be named {name!r}, which is a field of the spec")
    for item in fields(declaration):
        value = getattr(declaration, item.name)
        if item.name in _TARGETS or (item.name == "options" and value is not None):
            if not (isinstance(value, str) and _TARGET.fullmatch(value)):
                raise PluginError(f"{kind} {name!r}: its {item.name} is {value!r}, expected 'module:attribute'")
        elif item.name in ("suffixes", "also"):
            _check_suffixes(f"{kind} {name!r}: its {item.name}", value)
    if isinstance(declaration, Command):
        _check_command(declaration)


def _check_suffixes(where: str, suffixes: object) -> None:
    if isinstance(suffixes, str) or not isinstance(suffixes, list | tuple):
        raise PluginError(f"{where} are {suffixes!r}, expected a tuple such as ('.onnx',)")
    for suffix in suffixes:
        if not (isinstance(suffix, str) and _SUFFIX.fullmatch(suffix)):
            cure = f"; write {'.' + suffix!r}" if isinstance(suffix, str) and suffix else ""
            raise PluginError(f"{where} hold {suffix!r}, which does not begin with a dot{cure}")


def _check_command(command: Command) -> None:
    where = f"command {command.name!r}"
    if command.kind not in ("task", "app"):
        raise PluginError(f"{where}: its kind is {command.kind!r}, expected 'task' or 'app'")
    if not isinstance(command.summary, str):
        raise PluginError(f"{where}: its summary is {command.summary!r}, expected a sentence")
    for flag in command.flags:
        if not flag.name.isidentifier() or flag.name in _FLAGS_TAKEN:
            raise PluginError(f"{where}: a flag cannot be named {flag.name!r}")
