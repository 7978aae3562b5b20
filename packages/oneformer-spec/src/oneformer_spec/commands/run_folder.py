"""The results folder of one run, with `experiment.yaml`, which reproduces the run, and `status.json`, its history."""

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
    """A run's results folder; as a context manager it records start, success and failure in `status.json`."""

    def __init__(self, path: Path) -> None:
        """Use an existing folder; `open` creates one."""
        self.path = path

    @classmethod
    def open(cls, spec: Spec, task: str) -> RunFolder:
        """Create the results folder of a task and write `experiment.yaml` into it.

        Raises:
            SpecError: The path or one of its parents is a file.
            OneFormerError: The folder or file cannot be written.
        """
        from oneformer_spec.documents.resolved import dump

        path = results_folder(spec, task)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / "experiment.yaml", dump(spec, task))
        except (FileExistsError, NotADirectoryError):
            raise SpecError(f"{_file_in_the_way(path)}: is a file; results_dir must name a folder") from None
        except OSError as error:
            raise OneFormerError(
                f"{path}: cannot write results there: {error.strerror}; set results_dir to another folder"
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
        """Append one JSON line to `status.json`; NaN and infinite values become null.

        Raises:
            OneFormerError: The file cannot be written, for instance because the disk is full.
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
        """Record how the run ended; an exception is passed on to the caller."""
        if error is None:
            self.status("SUCCESS", "finished")
            return
        if isinstance(error, KeyboardInterrupt | SystemExit):
            message = "stopped by a signal"
        else:
            message = f"{error}" if isinstance(error, OneFormerError) else f"{type(error).__name__}: {error}"
        with suppress(OneFormerError):  # must not hide the error that ended the run, such as a full disk
            self.status("FAILURE", message)


def results_folder(spec: Spec, task: str) -> Path:
    """Return a task's results folder: `<task>.results_dir`, or by default `<results_dir>/<task>`."""
    section = spec.commands[task] if task in spec.commands else getattr(spec, task, None)
    own = getattr(section, "results_dir", None)
    return Path(own) if own else Path(spec.results_dir or ".") / task


def _plain(value: Any) -> Any:
    """Return a value for JSON: numpy and torch numbers become floats, NaN and infinity become None."""
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
