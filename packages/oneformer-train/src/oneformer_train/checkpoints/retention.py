"""Which checkpoint files stay: the periodic ones, the best ones, and the order in which they are written and deleted.

The latest state is written first and holds the plan: which files are to be copies of it, and which are not wanted any
more. Then the plan is carried out. A run that is killed in between finds the plan in its latest state and completes it.
Only files that stand in the plan are ever deleted, and a run puts only names of files there that it wrote itself.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from oneformer_spec.commands.exit import note
from oneformer_spec.errors import CheckpointError, SpecError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.schema import Checkpointer
from oneformer_train.checkpoints.resume import LATEST, PERIODIC


class Retention:
    """The files that a run keeps beside its latest state."""

    def __init__(self, folder: Path, options: Checkpointer) -> None:
        """Keep periodic checkpoints in `folder`, the best ones there or in `train.checkpointer.dirpath`."""
        self.folder = folder
        self.options = options
        self.best_folder = Path(options.dirpath) if options.dirpath else folder
        self.periodic: list[str] = []
        self.best: dict[str, float] = {}
        self.new: list[str] = []
        self.old: list[str] = []

    def plan(self, periodic: str | None, values: Mapping[str, float] | None) -> None:
        """Decide what becomes of the state that is about to be saved.

        Args:
            periodic: Name of a periodic checkpoint that is due.
            values: `epoch`, `step` and the scores of a validation of this very state, by name.
        """
        self.new, self.old = [], []
        if periodic is not None and not self.options.replace_periodic:
            self._add_periodic(periodic)
        if values is not None and self.options.enable_topk:
            assert self.options.monitor is not None
            self._add_best(best_name(self.options, values), float(values[self.options.monitor]))

    def settle(self, source: Path, *, again: bool = False) -> None:
        """Carry out the plan of the state in `source`, copies first, deletions after them.

        Args:
            source: The file that holds the state.
            again: It may have been done: copies that are there and no older than `source` stay as they are.

        Raises:
            CheckpointError: A file cannot be written, for instance to a full disk.
        """
        for name in self.new:
            target = self._path(name)
            if not (again and target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns):
                _copy(source, target)
        for name in self.old:
            try:
                self._path(name).unlink(missing_ok=True)
            except OSError as error:
                note(f"{self._path(name)}: cannot be deleted: {error.strerror}")

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of this."""
        return {
            "best_folder": str(self.best_folder),
            "periodic": list(self.periodic),
            "best": dict(self.best),
            "new": list(self.new),
            "old": list(self.old),
        }

    def load(self, state: Mapping[str, Any], source: Path) -> None:
        """Take up what a checkpoint in `source` holds; what another run keeps in its own folder is left to that run."""
        if source.resolve().parent not in (self.folder.resolve(), self.best_folder.resolve()):
            return
        same_place = state["best_folder"] == str(self.best_folder)
        self.periodic = list(state["periodic"])
        self.best = dict(state["best"]) if same_place else {}
        self.new = [name for name in state["new"] if same_place or _is_periodic(name)]
        self.old = [name for name in state["old"] if same_place or _is_periodic(name)]

    def existing_best(self) -> list[Path]:
        """Return files that are named as best checkpoints are."""
        return sorted(self.best_folder.glob(pattern(self.options))) if self.options.enable_topk else []

    def check_unused(self) -> None:
        """Refuse a folder of best checkpoints that another run writes to, so that neither loses any.

        Raises:
            SpecError: There is a checkpoint of that name already.
        """
        if found := self.existing_best():
            raise SpecError(
                f"train.checkpointer.dirpath: {found[0]} is another run's; "
                "choose a folder of its own for this run, or another train.checkpointer.filename"
            )

    def _add_periodic(self, name: str) -> None:
        self.periodic = [*(known for known in self.periodic if known != name), name]
        self.new.append(name)
        if self.options.keep_last is not None:
            self.old += self.periodic[: -self.options.keep_last]
            self.periodic = self.periodic[-self.options.keep_last :]

    def _add_best(self, name: str, score: float) -> None:
        """Add a checkpoint if it is among the best; of equal ones the earlier stays, and a name belongs to one file."""
        worst = min(self.best, key=self._goodness, default=None)
        others = [self.best[name]] if name in self.best else []
        if worst is not None and len(self.best) >= self.options.save_top_k and name not in self.best:
            others.append(self.best[worst])
        if math.isnan(score) or any(self._sign * score <= self._sign * other for other in others):
            return
        self.best[name] = score
        self.new.append(name)
        while len(self.best) > self.options.save_top_k:
            dropped = min(self.best, key=self._goodness)
            del self.best[dropped]
            self.old.append(dropped)

    @property
    def _sign(self) -> int:
        mode = self.options.mode or ("min" if "loss" in (self.options.monitor or "") else "max")
        return 1 if mode == "max" else -1

    def _goodness(self, name: str) -> float:
        return self._sign * self.best[name]

    def _path(self, name: str) -> Path:
        return (self.folder if _is_periodic(name) else self.best_folder) / name


def _is_periodic(name: str) -> bool:
    return Path(name).match(PERIODIC)


def _copy(source: Path, target: Path) -> None:
    try:
        with open(source, "rb") as file:
            write_atomically(target, lambda written: shutil.copyfileobj(file, written, 2**20))
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror or error}; {source} is saved") from error


SUFFIX = ".pth"
_FIELD = "train.checkpointer.filename"


def best_name(options: Checkpointer, values: Mapping[str, float]) -> str:
    """Return the file name of a best checkpoint; `values` are those of `epoch`, `step` and the scores by name.

    Raises:
        SpecError: The template asks for something else, or for a format that its value does not have.
    """
    parts = []
    for literal, name, form, _ in _parsed(options.filename):
        parts.append(literal)
        if name is None:
            continue
        if name not in values:
            raise SpecError(f"{_FIELD}: {{{name}}} is not known; there are: {', '.join(values)}")
        label = f"{name}=" if options.auto_insert_metric_name else ""
        try:
            parts.append(f"{label}{values[name]:{form}}")
        except ValueError as error:
            raise SpecError(f"{_FIELD}: {{{name}:{form}}}: {error}") from None
    return "".join(parts) + SUFFIX


def pattern(options: Checkpointer) -> str:
    """Return a glob pattern that every best checkpoint's name matches."""
    parts = ["".join("[" + c + "]" if c in "*?[" else c for c in part[0]) for part in _parsed(options.filename)]
    names = [part[1] for part in _parsed(options.filename)]
    return "".join(part + ("*" if name is not None else "") for part, name in zip(parts, names, strict=True)) + SUFFIX


def check_names(options: Checkpointer, scores: Sequence[str]) -> None:
    """Refuse a metric that is not measured, and names that cannot be; does nothing where no best ones are kept.

    Raises:
        SpecError: It says what there is instead.
    """
    if not options.enable_topk:
        return
    if options.monitor not in scores:
        there = f"there are: {', '.join(scores)}" if scores else "nothing is: dataset.val is not set"
        raise SpecError(f"train.checkpointer.monitor: {options.monitor!r} is not measured; {there}")
    name = best_name(options, {"epoch": 0, "step": 0} | dict.fromkeys(scores, 0.5))
    if Path(name).name != name or name.startswith("."):
        raise SpecError(f"{_FIELD}: {name!r} is no name of a file; train.checkpointer.dirpath names the folder")
    if name == LATEST or Path(name).match(PERIODIC):
        raise SpecError(f"{_FIELD}: {name!r} is the name of another checkpoint of the run")


def _parsed(template: str) -> list[tuple[str, str | None, str, str | None]]:
    """Return literal text, field name, format and conversion, part by part."""
    try:
        return [(text, name, form or "", how) for text, name, form, how in Formatter().parse(template)]
    except ValueError as error:
        raise SpecError(f"{_FIELD}: {template!r}: {error}") from None
