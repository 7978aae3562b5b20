"""Names of the best checkpoints: `train.checkpointer.filename` filled with epoch, step and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter

from oneformer_spec.errors import SpecError
from oneformer_spec.schema import Checkpointer
from oneformer_train.resume import LATEST, PERIODIC

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
