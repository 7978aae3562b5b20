"""What a row of the tables says, and how an observation is made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template

import numpy as np
import torch

from oneformer_spec.commands.task_command import run_task
from oneformer_spec.loading.load import load_spec
from oneformer_spec.plugins.registry import registry
from oneformer_spec.schema import Spec


@dataclass(frozen=True)
class Case:
    """One spec in a fresh folder of its own; what it writes lies there."""

    words: tuple[str, ...]
    folder: Path

    @cached_property
    def spec(self) -> Spec:
        """The spec that the words make."""
        return load_spec([], self.words).spec

    def start(self, task: str) -> None:
        """Run a command as the command line does."""
        run_task(registry().command(task), (), self.words)

    def files(self) -> list[str]:
        """The files in the folder, by their paths from it."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def find(self, name: str) -> Path:
        """The one file of a name, wherever it lies."""
        (path,) = self.folder.rglob(name)
        return path


Observer = Callable[[Case], object]
"""Does something real with a spec and returns what came out, as plain data that can be compared."""


@dataclass(frozen=True)
class Row:
    """A field acts: with `value` in its place the observer sees something else than without.

    `base` are settings that both sides share, because the field acts under them alone. `together` are settings that go
    with the changed value because the spec refuses the one without the other; the observer must not see them by
    themselves. `refusal` is part of the one error that the changed value must cause, for fields that choose between
    what is there and what is not. Words may name `$data`, `$model` and `$run`, the folder of the case.
    """

    path: str
    value: str
    observe: Observer
    base: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    refusal: str | None = None

    @property
    def changes(self) -> tuple[str, ...]:
        """The settings of the changed side."""
        return (*self.together, f"{self.path}={self.value}")


def filled(words: tuple[str, ...], places: Mapping[str, Path]) -> tuple[str, ...]:
    """Return words with the places that they name."""
    return tuple(Template(word).substitute(places) for word in words)


def digest(value: object) -> str:
    """Return a short text that differs where tensors, arrays or plain data differ."""
    state = hashlib.sha256()
    _feed(state, value)
    return state.hexdigest()[:16]


def _feed(state: hashlib._Hash, value: object) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
    if isinstance(value, np.ndarray):
        state.update(f"{value.dtype}{value.shape}".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        _feed(state, list(value.items()))
    elif isinstance(value, list | tuple):
        state.update(f"[{len(value)}".encode())
        for item in value:
            _feed(state, item)
    else:
        state.update(f"{type(value).__name__}{value!r};".encode())
