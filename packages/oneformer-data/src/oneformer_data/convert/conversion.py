"""What a conversion reads and how it runs: every sample through every output, all files or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oneformer_data.convert.outputs import FILES, OUTPUTS, Output, OutputFormat, Place, png_name
from oneformer_data.sample import Sample
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError, UsageError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.staging import staged
from oneformer_spec.labels import Labels

LABEL_MAP = "label_map.json"


@dataclass(frozen=True)
class Annotated:
    """Pictures below the folder `images` and how to read each; a sample's name starts from that folder.

    Each of `loads` returns a sample or raises DataError. `formats` are those that the annotations suffice for.
    """

    images: Path
    labels: Labels
    loads: Sequence[Callable[[], Sample]]
    formats: tuple[OutputFormat, ...]


@dataclass(frozen=True)
class Report:
    """What was written: pictures, and what to set in `dataset.<split>` for each format."""

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
    tell: Callable[[str], object],
) -> Report:
    """Write pictures' annotations into the folder `output`; `tell` is called with each problem.

    Args:
        annotated: What to write.
        output: Made where it is missing. Nothing is written to it before everything could be read.
        formats: Those to write; all that the annotations suffice for where there are none.
        force: Replace files that are there.
        skip_bad: Leave pictures out that cannot be read, or whose annotations are wrong.
        tell: Takes a line per picture that cannot be converted.

    Raises:
        UsageError: The annotations do not suffice for a format, or files are there already.
        DataError: A picture cannot be converted and `skip_bad` is not set, or none can.
    """
    chosen = tuple(dict.fromkeys(formats)) or annotated.formats
    for format in chosen:
        if format not in annotated.formats:
            raise UsageError(f"--to {format}: these annotations suffice for {', '.join(annotated.formats)} alone")
    names = [LABEL_MAP, *(name for format in chosen for name in FILES[format])]
    with staged(output, names, force=force) as folder:
        place = Place(folder, output, annotated.images)
        outputs = {format: OUTPUTS[format](place, annotated.labels) for format in chosen}
        skipped = _write_samples(annotated, list(outputs.values()), skip_bad, tell)
        for each in outputs.values():
            each.finish()
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in annotated.labels.rows())
        write_atomically(folder / LABEL_MAP, f"[\n{rows}\n]\n")
    settings = {format: each.settings() for format, each in outputs.items()}
    return Report(len(annotated.loads) - skipped, skipped, output / LABEL_MAP, settings)


def _write_samples(
    annotated: Annotated, outputs: Sequence[Output], skip_bad: bool, tell: Callable[[str], object]
) -> int:
    """Give every sample to every output, and return how many are left out."""
    names: dict[str, str] = {}
    bad, total = 0, len(annotated.loads)
    progress = Progress("convert", "images")
    for number, load in enumerate(annotated.loads, start=1):
        try:
            sample = load()
            _check_name(sample.name, names)
        except DataError as error:
            tell(str(error))
            bad += 1
        else:
            if not bad or skip_bad:
                for output in outputs:
                    output.add(sample)
        progress(number, total)
    if bad and not (skip_bad and bad < total):
        hint = "; --skip-bad leaves them out" if bad < total else ""
        raise DataError(f"{bad} of {total} images cannot be converted, so nothing was written{hint}")
    return bad


def _check_name(name: str, names: dict[str, str]) -> None:
    """Note a picture's name under that of its PNG, which must be its own."""
    png = png_name(name)
    if png in names:
        other = names[png]
        both = "has two annotations" if other == name else f"and {other} would share the file {png}"
        raise DataError(f"{name}: {both}")
    names[png] = name
