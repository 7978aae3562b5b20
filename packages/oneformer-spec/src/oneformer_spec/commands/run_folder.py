"""The folder of one run: the spec that reproduces it and a line of status per event."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from oneformer_spec.errors import OneFormerError, SpecError
from oneformer_spec.files.atomic import write_atomically

if TYPE_CHECKING:
    from oneformer_spec.schema import Spec

Status = Literal["STARTED", "RUNNING", "SUCCESS", "FAILURE"]


class RunFolder:
    """`<task>.results_dir`, or `<results_dir>/<task>`; as a context it records start, success and failure."""

    def __init__(self, path: Path) -> None:
        """Use an existing folder; `open` makes one."""
        self.path = path

    @classmethod
    def open(cls, spec: Spec, task: str) -> RunFolder:
        """Make the folder of a task's run and write `experiment.yaml`.

        Raises:
            SpecError: The path, or a parent of it, is a file.
            OneFormerError: It cannot be written.
        """
        from oneformer_spec.documents.resolved import dump

        path = results_folder(spec, task)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / "experiment.yaml", dump(spec))
        except (FileExistsError, NotADirectoryError):
            raise SpecError(f"{_file_in_the_way(path)}: is a file; results_dir must name a folder") from None
        except OSError as error:
            raise OneFormerError(
                f"{path}: cannot write results there: {error.strerror}; results_dir names another place"
            ) from None
        return cls(path)

    def status(
        self,
        status: Status,
        message: str,
        *,
        epoch: int | None = None,
        eta: str | None = None,
        kpi: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one JSON line to `status.json`; a figure that is no number (NaN, infinite) becomes null.

        Raises:
            OneFormerError: It cannot be written, for instance to a full disk.
        """
        now = datetime.now(UTC).astimezone()
        line: dict[str, Any] = {
            "date": now.strftime("%Y-%m-%d"),
            "time": now.strftime("%H:%M:%S"),
            "status": status,
            "message": message,
        }
        figures = None if kpi is None else {name: _plain(value) for name, value in kpi.items()}
        optional = {"epoch": epoch, "eta": eta, "kpi": figures}
        line |= {name: value for name, value in optional.items() if value is not None}
        try:
            with open(self.path / "status.json", "a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OneFormerError(
                f"{self.path / 'status.json'}: cannot be written: {error.strerror or error}"
            ) from error

    def __enter__(self) -> Self:
        """Record the start."""
        self.status("STARTED", "started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Record how the run ended; the error goes on to the caller."""
        if error is None:
            self.status("SUCCESS", "finished")
            return
        if isinstance(error, KeyboardInterrupt | SystemExit):
            message = "stopped by a signal"
        else:
            message = f"{error}" if isinstance(error, OneFormerError) else f"{type(error).__name__}: {error}"
        with suppress(OneFormerError):  # a full disk must not hide the error that it caused
            self.status("FAILURE", message)


def results_folder(spec: Spec, task: str) -> Path:
    """Return where a task's run writes."""
    own = getattr(spec, task).results_dir
    return Path(own) if own else Path(spec.results_dir or ".") / task


def _plain(value: Any) -> Any:
    """Return a figure as JSON takes it: a number of numpy or torch as a float, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _file_in_the_way(path: Path) -> Path:
    return next((parent for parent in (path, *path.parents) if parent.is_file()), path)
