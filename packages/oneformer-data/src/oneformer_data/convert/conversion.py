"""Run a conversion: every sample goes through every output, and either all files are written or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oneformer_data.convert.outputs import FILES, OUTPUTS, Destination, Output, OutputFormat, png_name
from oneformer_data.sample import Sample
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError, UsageError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.staging import staged
from oneformer_spec.labels import Labels

LABEL_MAP = "label_map.json"


@dataclass(frozen=True)
class Annotated:
    """A data set to convert: its images, classes and a loader for each sample.

    Each of `loads` returns a sample, named by its path relative to `images`, or raises DataError. `formats` are the
    output formats for which the annotations have targets.
    """

    images: Path
    labels: Labels
    loads: Sequence[Callable[[], Sample]]
    formats: tuple[OutputFormat, ...]


@dataclass(frozen=True)
class Converted:
    """The result of a conversion: image counts, the label map, and the `dataset.<split>` settings of each format."""

    images: int
    skipped: int
    label_map: Path
    settings: dict[OutputFormat, dict[str, str]]


def convert(
    annotated: Annotated,
    output: Path,
    *,
    formats: Sequence[OutputFormat] = (),
    force: bool = False,
    skip_bad: bool = False,
    on_problem: Callable[[str], object],
) -> Converted:
    """Write the annotations of images into the folder `output`, in one or more formats.

    Args:
        annotated: The data set to convert.
        output: Created if missing. Nothing is written to it until everything has been read.
        formats: The formats to write; by default all for which the annotations have targets.
        force: Replace existing files.
        skip_bad: Skip images that cannot be read or whose annotations are wrong.
        on_problem: Called with one line for each image that cannot be converted.

    Raises:
        UsageError: The annotations have no targets for a format, or files exist already.
        DataError: An image cannot be converted and `skip_bad` is not set, or no image can be.
    """
    chosen = tuple(dict.fromkeys(formats)) or annotated.formats
    for format in chosen:
        if format not in annotated.formats:
            raise UsageError(f"--to {format}: these annotations can only be written as {', '.join(annotated.formats)}")
    names = [LABEL_MAP, *(name for format in chosen for name in FILES[format])]
    with staged(output, names, force=force) as folder:
        destination = Destination(folder, output, annotated.images)
        outputs = {format: OUTPUTS[format](destination, annotated.labels) for format in chosen}
        skipped = _write_samples(annotated, list(outputs.values()), skip_bad, on_problem)
        for each in outputs.values():
            each.finish()
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in annotated.labels.rows())
        write_atomically(folder / LABEL_MAP, f"[\n{rows}\n]\n")
    settings = {format: each.settings() for format, each in outputs.items()}
    return Converted(len(annotated.loads) - skipped, skipped, output / LABEL_MAP, settings)


def _write_samples(
    annotated: Annotated, outputs: Sequence[Output], skip_bad: bool, on_problem: Callable[[str], object]
) -> int:
    """Pass every sample to every output, and return how many were skipped."""
    names: dict[str, str] = {}
    bad, total = 0, len(annotated.loads)
    progress = Progress("convert", "images")
    for number, load in enumerate(annotated.loads, start=1):
        try:
            sample = load()
            _check_name(sample.name, names)
        except DataError as error:
            on_problem(str(error))
            bad += 1
        else:
            if not bad or skip_bad:
                for output in outputs:
                    output.add(sample)
        progress(number, total)
    if bad and not (skip_bad and bad < total):
        hint = "; --skip-bad skips them" if bad < total else ""
        raise DataError(f"{bad} of {total} images cannot be converted, so nothing was written{hint}")
    return bad


def _check_name(name: str, names: dict[str, str]) -> None:
    """Register the PNG name of an image; two images must not share one."""
    png = png_name(name)
    if png in names:
        other = names[png]
        both = "has two annotations" if other == name else f"and {other} would share the file {png}"
        raise DataError(f"{name}: {both}")
    names[png] = name
