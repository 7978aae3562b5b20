"""Run a command of kind `task`, for instance `train`; used by `oneformer` and `python -m oneformer_deploy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from oneformer_spec.commands.exit import note
from oneformer_spec.hooks import Command
from oneformer_spec.plugins.registry import resolve


def run_task(
    command: Command, files: Sequence[Path], overrides: Sequence[str], flags: Mapping[str, bool] | None = None
) -> None:
    """Load the spec, print its notes, refuse features that are not available yet, and run the command.

    The target is called with the spec, with flags and with the command's options, a section of the spec, as keywords.

    Raises:
        SpecError: The spec is wrong; the command has not been started.
    """
    from oneformer_spec.commands.unavailable import check_available
    from oneformer_spec.loading.load import load_spec
    from oneformer_spec.plugins.entries import naming_plugin, section_keywords

    loaded = load_spec(files, overrides, task=command.name)
    for line in loaded.notes:
        note(line)
    check_available(loaded.spec, command.name)
    with naming_plugin("command", command.name):
        options = section_keywords("command", command.name, loaded.spec.commands)
        resolve(command.target)(loaded.spec, **(flags or {}), **options)
