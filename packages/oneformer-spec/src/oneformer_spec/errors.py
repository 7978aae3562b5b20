"""The errors that users see: each carries one line per problem and the exit code of the process."""

from __future__ import annotations

from collections.abc import Sequence


class OneFormerError(Exception):
    """Something the user can mend; `str(error)` is the whole message, without a traceback."""

    exit_code: int = 1


class UsageError(OneFormerError):
    """The command line is wrong, or a package that the command needs is not installed."""

    exit_code: int = 2


class SpecError(OneFormerError):
    """The spec is wrong; `problems` holds one located line per mistake, all of a file at once."""

    exit_code: int = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class DataError(OneFormerError):
    """An image, an annotation or a label map is wrong; the message begins with the file and names the item."""


class CheckpointError(OneFormerError):
    """A checkpoint or an exported model cannot be read or does not fit; the message begins with the file."""


class EncryptionKeyError(CheckpointError):
    """An encrypted file is there and its key is not: it is missing, or it is another."""


class PluginError(OneFormerError):
    """A plugin breaks its contract; the message names the distribution."""
