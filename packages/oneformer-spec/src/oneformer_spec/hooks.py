"""The plugin contract: every hook takes no argument and returns declarations.

A `target` is "module:attribute" and is imported only when it is used, so a module that implements hooks stays light.
Register one under the entry-point group "oneformer".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pluggy

GROUP = "oneformer"

ChooseLayers = Callable[[Mapping[str, str]], list[str]]
"""The kinds of all layers by name -> the names of those that `quantize.layers` and `quantize.skip_names` choose."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclass(frozen=True)
class Flag:
    """A switch of a command, `--name`, passed to its target as the keyword of that name."""

    name: str
    summary: str


@dataclass(frozen=True)
class Command:
    """A verb of `oneformer`: kind `task` is called as `run(spec)`, kind `app` is a Typer app."""

    name: str
    target: str
    summary: str
    kind: Literal["task", "app"] = "task"
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Backbone:
    """A feature extractor: `build(**options) -> nn.Module` with `.channels` and `.strides`.

    `options` is "module:Dataclass", the frozen dataclass of its section `model.backbone.<name>.*`.
    """

    name: str
    target: str
    options: str


@dataclass(frozen=True)
class Dataset:
    """An annotation format: `open(source, labels)` returns a sequence of samples.

    `check` is an optional second target: `check(source, labels)` yields a line per problem of the annotations, where
    opening stops at the first. Without it, a check opens the data and asks for every sample.
    """

    name: str
    target: str
    check: str | None = None


@dataclass(frozen=True)
class Evaluator:
    """A score: `make(labels)` returns an object with `update`, `merge` and `compute`.

    It counts what is predicted for `task`, which is its name where it is None.
    """

    name: str
    target: str
    task: str | None = None


@dataclass(frozen=True)
class Runtime:
    """A way to run model files.

    `open(path, device="auto", num_threads=None, key=None)` returns a Segmenter; `key` opens an encrypted file, see
    `oneformer_spec.files.encryption`. It runs files with one of `suffixes` unless the spec names another runtime, and
    files with one of `also` when the spec names it. A runtime of several `precisions` is given the keyword `precision`.
    """

    name: str
    target: str
    suffixes: tuple[str, ...]
    also: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32",)


@dataclass(frozen=True)
class Quantizer:
    """A library that makes models smaller, chosen by `quantize.backend`: `quantize(spec, choose)` runs the command.

    `choose(kinds)` takes every layer that the library can quantize, by name, with its kind, and returns the names that
    the spec asks for.
    """

    name: str
    target: str


@dataclass(frozen=True)
class Check:
    """What `oneformer validate --check <name>` looks at: `check(spec)` yields a line per problem, or none."""

    name: str
    target: str


class Hooks:
    """All hooks of the `oneformer` group."""

    @hookspec
    def oneformer_commands(self) -> Sequence[Command]:
        """Add verbs to the command line."""
        return ()

    @hookspec
    def oneformer_backbones(self) -> Sequence[Backbone]:
        """Add values of `model.backbone.type`."""
        return ()

    @hookspec
    def oneformer_datasets(self) -> Sequence[Dataset]:
        """Add values of `dataset.<split>.type`."""
        return ()

    @hookspec
    def oneformer_checks(self) -> Sequence[Check]:
        """Add what `oneformer validate` can check beyond the spec itself."""
        return ()

    @hookspec
    def oneformer_evaluators(self) -> Sequence[Evaluator]:
        """Add scores of a task's predictions."""
        return ()

    @hookspec
    def oneformer_quantizers(self) -> Sequence[Quantizer]:
        """Add values of `quantize.backend`."""
        return ()

    @hookspec
    def oneformer_runtimes(self) -> Sequence[Runtime]:
        """Add runtimes, chosen by a model file's suffix."""
        return ()
