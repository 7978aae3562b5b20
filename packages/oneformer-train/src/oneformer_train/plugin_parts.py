"""The callbacks and loggers that plugins bring to a run; an error out of one of them names it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oneformer_spec.errors import OneFormerError, PluginError
from oneformer_spec.plugins.entries import make, naming_plugin, part_name
from oneformer_spec.plugins.option import Entry
from oneformer_spec.schema import Spec


class PluginParts:
    """Makes callbacks and loggers of entries, and remembers who they belong to."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        """Make the parts of a run of `spec` in `folder`."""
        self.spec, self.folder = spec, folder
        self._made: list[tuple[str, str, object]] = []  # kind, name, part

    def make(self, kind: str, entry: Entry, expected: type) -> Any:
        """Return what an entry stands for.

        Raises:
            SpecError: It is not installed.
            PluginError: It cannot be made, or is not of the expected class of pytorch_lightning.
        """
        part = make(kind, entry, spec=self.spec, folder=self.folder)
        if not isinstance(part, expected):
            module = type(part).__module__
            raise PluginError(
                f"{part_name(kind, entry.type)}: found {module}.{type(part).__qualname__}, "
                f"expected a {expected.__name__} of pytorch_lightning"
            )
        self._made.append((kind, entry.type, part))
        return part

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Turn an error that comes out of a part, whichever of its methods was called, into one that names it.

        Raises:
            PluginError: A part failed.
        """
        try:
            yield
        except OneFormerError:
            raise
        except Exception as error:
            for frame, _ in traceback.walk_tb(error.__traceback__):
                for kind, name, part in self._made:
                    if frame.f_locals.get("self") is part:
                        with naming_plugin(kind, name):
                            raise
            raise
