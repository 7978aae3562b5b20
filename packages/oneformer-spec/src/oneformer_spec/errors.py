"""Errors that are shown to the user, with their exit codes."""

from __future__ import annotations

from collections.abc import Sequence


class OneFormerError(Exception):
    """An error that the user can fix; it is shown as `str(error)`, without a traceback."""

    exit_code: int = 1


class UsageError(OneFormerError):
    """The command line is wrong, or a package that the command needs is not installed."""

    exit_code: int = 2


class SpecError(OneFormerError):
    """The spec is wrong; `problems` has one line per mistake, each beginning with its location."""

    exit_code: int = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class DataError(OneFormerError):
    """An image, an annotation or a label map is wrong; the message begins with the file and names the item."""


class CheckpointError(OneFormerError):
    """A checkpoint or an exported model cannot be read or does not fit; the message begins with the file."""


class EncryptionKeyError(CheckpointError):
    """The key of an encrypted file is missing or wrong."""


class PluginError(OneFormerError):
    """A plugin breaks its contract; the message names the distribution."""
