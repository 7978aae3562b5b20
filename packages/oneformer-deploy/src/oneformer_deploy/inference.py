"""The command `inference`: segment a folder of images; write overlay pictures, label maps and lists of segments."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.results.files import MAX_EDGE, SUFFIXES, write_results
from oneformer_spec.commands.exit import note, report
from oneformer_spec.commands.progress import Progress
from oneformer_spec.commands.run_folder import RunFolder, results_folder
from oneformer_spec.errors import DataError, OneFormerError
from oneformer_spec.files.atomic import remove_leftovers
from oneformer_spec.files.images import find_images, read_image
from oneformer_spec.pictures.font import unwritable
from oneformer_spec.plugins.task_declarations import ALL, declared_tasks
from oneformer_spec.processes.shares import ReportProgress, open_work
from oneformer_spec.processes.world import World
from oneformer_spec.results import Segmentation
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.frame import SizeRule
from oneformer_spec.segmentation.model_file import input_rule, model_path, open_model, requested_tasks
from oneformer_spec.segmentation.segmenter import Segmenter

NAME_ERRORS = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""Errors caused by one image's file name. Any other write error, such as a full disk, ends the run."""


@dataclass(frozen=True)
class Picture:
    """A decoded image: its path relative to `images_dir`, and its RGB pixels (H, W, 3)."""

    name: Path
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class InferenceResult:
    """What one process wrote: the results folder of each task, and one error line per image that failed."""

    folders: dict[str, Path]
    failures: list[str]


@dataclass(frozen=True)
class InferenceWork:
    """One process's part of an inference run: a model and the images (relative to `root`) that it segments.

    The results of each task go to that task's folder. Implements `oneformer_spec.processes.shares.Work`.
    """

    segmenter: Segmenter
    rule: SizeRule | None
    root: Path
    images: Sequence[Path]
    batch_size: int
    folders: dict[str, Path]

    @property
    def total(self) -> int:
        """The number of images that this process segments."""
        return len(self.images)

    def run(self, report: ReportProgress) -> InferenceResult:
        """Segment all images and write their results."""
        failures: list[str] = []
        for start in range(0, self.total, self.batch_size):
            names = self.images[start : start + self.batch_size]
            pictures = list(_read(self.root, names, failures))
            try:
                for task, folder in self.folders.items():
                    results = zip(pictures, self._predict(pictures, task), strict=True)
                    pictures = [one for one, result in results if self._write(folder, one, result, failures)]
            except MemoryError:
                failures += [f"{self.root / picture.name}: too large for this machine's memory" for picture in pictures]
            report(start + len(names), self.total)
        return InferenceResult(self.folders, failures)

    def _predict(self, pictures: Sequence[Picture], task: str) -> list[Segmentation]:
        return self.segmenter.predict([picture.pixels for picture in pictures], task, rule=self.rule)

    def _write(self, folder: Path, picture: Picture, result: Segmentation, failures: list[str]) -> bool:
        """Write the results of one image; return False if its name makes that impossible."""
        try:
            write_results(folder, picture.name, picture.pixels, result, self.segmenter.manifest.labels)
        except OSError as error:
            problem = f"{folder}: cannot write the results of {picture.name}: {error.strerror or error}"
            if error.errno not in NAME_ERRORS:
                raise OneFormerError(problem) from error
            failures.append(problem)
            return False
        return True


def run(spec: Spec) -> None:
    """Segment every image below `inference.images_dir`.

    Nothing is written until the model is open and the images are listed. An image that cannot be read, or whose results
    cannot be written, does not stop the others; the errors are printed at the end.

    Raises:
        UsageError: No installed runtime reads the model file.
        DataError: The folder contains no images, or at least one image failed.
    """
    model_path(spec.inference, "inference")
    images = _images(spec)
    with (
        open_work("oneformer_deploy.inference:open_inference", spec, "inference", images) as work,
        RunFolder.open(spec, "inference") as folder,
    ):
        for output_folder in _output_folders(spec):
            remove_leftovers(output_folder)
        progress = Progress("inference", "images", report=lambda line, eta: folder.status("RUNNING", line, eta=eta))
        results: list[InferenceResult] = work.run(progress)
        failures = [line for result in results for line in result.failures]
        _print_summary(results[0].folders, work.total - len(failures), progress.seconds)
        for line in failures[:-1]:
            report(line)
        if failures:
            raise DataError(failures[-1])


def open_inference(spec: Spec, world: World, images: Sequence[Path]) -> InferenceWork:
    """Open the model in one process and give it that process's part of the images, in whole batches."""
    path = model_path(spec.inference, "inference")
    segmenter = open_model(path, spec, spec.inference, world)
    if world.is_first and (missing := unwritable(segmenter.manifest.labels.names)):
        note(missing)
    batch_size = _batch_size(spec)
    share = world.share(len(images), batch_size)
    return InferenceWork(
        segmenter=segmenter,
        rule=input_rule(segmenter, spec, spec.inference),
        root=Path(spec.inference.images_dir),
        images=images[share.start : share.stop],
        batch_size=batch_size,
        folders=_folders(spec, requested_tasks(spec.inference.mode, segmenter, path, "inference.mode")),
    )


def _images(spec: Spec) -> list[Path]:
    """Return the images relative to `images_dir`, without the output of earlier runs that may lie below it."""
    folder, output_folders = Path(spec.inference.images_dir), {path.resolve() for path in _output_folders(spec)}
    paths = [path for path in find_images(folder) if output_folders.isdisjoint(path.resolve().parents)]
    if not paths:
        raise DataError(f"{folder}: contains no images")
    return [path.relative_to(folder) for path in paths]


def _folders(spec: Spec, tasks: Sequence[str]) -> dict[str, Path]:
    root = results_folder(spec, "inference")
    return {task: root / task if spec.inference.mode == ALL else root for task in tasks}


def _output_folders(spec: Spec) -> list[Path]:
    """Return the output folders of runs with this results folder, in any mode."""
    root = results_folder(spec, "inference")
    return [root / task / name for task in ("", *declared_tasks()) for name in SUFFIXES]


def _batch_size(spec: Spec) -> int:
    return spec.dataset.test.batch_size if spec.inference.batch_size == -1 else spec.inference.batch_size


def _read(root: Path, names: Sequence[Path], failures: list[str]) -> Iterator[Picture]:
    for name in names:
        try:
            pixels = read_image(root / name)
        except DataError as error:
            failures.append(str(error))
            continue
        if max(pixels.shape) > MAX_EDGE:
            failures.append(f"{root / name}: has an edge of {max(pixels.shape)} pixels; the limit is {MAX_EDGE}")
        else:
            yield Picture(name, pixels)


def _print_summary(folders: dict[str, Path], count: int, seconds: float) -> None:
    print(f"{count} images segmented in {seconds:.1f} s ({count / max(seconds, 1e-9):.2f} images/s)")
    for task, folder in folders.items():
        print(f"{task}: {', '.join(str(folder / name) for name in SUFFIXES)}")
