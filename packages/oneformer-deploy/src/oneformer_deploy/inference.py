"""The command `inference`: a model file and a folder of images in, pictures, label maps and segments out."""

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
from oneformer_spec.processes.shares import Report, opened
from oneformer_spec.processes.world import World
from oneformer_spec.results import Segmentation
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.frame import SizeRule
from oneformer_spec.segmentation.model_file import input_rule, model_path, open_model, requested_tasks
from oneformer_spec.segmentation.segmenter import Segmenter

OF_ONE_IMAGE = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""What the name of an image can make impossible; a disk that is full or read-only stops everything."""


@dataclass(frozen=True)
class Picture:
    """One image: its path below `images_dir`, and its pixels, RGB (H, W, 3)."""

    name: Path
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Segmented:
    """What one process did: the folder of each task, and a line for each image whose results it could not write."""

    folders: dict[str, Path]
    failures: list[str]


@dataclass(frozen=True)
class Segmenting:
    """A model and the images that fall to this process, relative to `root`; see `oneformer_spec.processes.shares.Work`.

    The results go to a folder for each task.
    """

    segmenter: Segmenter
    rule: SizeRule | None
    root: Path
    images: Sequence[Path]
    batch_size: int
    folders: dict[str, Path]

    @property
    def total(self) -> int:
        """The number of images in the share."""
        return len(self.images)

    def run(self, report: Report) -> Segmented:
        """Write the results of all images for which that can be done."""
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
        return Segmented(self.folders, failures)

    def _predict(self, pictures: Sequence[Picture], task: str) -> list[Segmentation]:
        return self.segmenter.predict([picture.pixels for picture in pictures], task, rule=self.rule)

    def _write(self, folder: Path, picture: Picture, result: Segmentation, failures: list[str]) -> bool:
        """Write the results of an image and tell whether its name allows that."""
        try:
            write_results(folder, picture.name, picture.pixels, result, self.segmenter.manifest.labels)
        except OSError as error:
            problem = f"{folder}: cannot write the results of {picture.name}: {error.strerror or error}"
            if error.errno not in OF_ONE_IMAGE:
                raise OneFormerError(problem) from error
            failures.append(problem)
            return False
        return True


def run(spec: Spec) -> None:
    """Segment every image below `inference.images_dir`; nothing is written before model and images are found.

    An image that cannot be read, or whose results no file can hold, costs these only: the others are done first.

    Raises:
        UsageError: No installed runtime reads the model file.
        DataError: The folder has no images, or some failed: the last of one line for each.
    """
    model_path(spec.inference, "inference")
    images = _images(spec)
    with (
        opened("oneformer_deploy.inference:open_segmenting", spec, "inference", images) as work,
        RunFolder.open(spec, "inference") as folder,
    ):
        for written in _written_folders(spec):
            remove_leftovers(written)
        progress = Progress("inference", "images", report=lambda line, eta: folder.status("RUNNING", line, eta=eta))
        shares: list[Segmented] = work.run(progress)
        failures = [line for share in shares for line in share.failures]
        _print_summary(shares[0].folders, work.total - len(failures), progress.seconds)
        for line in failures[:-1]:
            report(line)
        if failures:
            raise DataError(failures[-1])


def open_segmenting(spec: Spec, world: World, images: Sequence[Path]) -> Segmenting:
    """Open the model of one process, which takes its share of the images in whole batches."""
    path = model_path(spec.inference, "inference")
    segmenter = open_model(path, spec, spec.inference, world)
    if world.is_first and (missing := unwritable(segmenter.manifest.labels.names)):
        note(missing)
    batch_size = _batch_size(spec)
    share = world.share(len(images), batch_size)
    return Segmenting(
        segmenter=segmenter,
        rule=input_rule(segmenter, spec, spec.inference),
        root=Path(spec.inference.images_dir),
        images=images[share.start : share.stop],
        batch_size=batch_size,
        folders=_folders(spec, requested_tasks(spec.inference.mode, segmenter, path, "inference.mode")),
    )


def _images(spec: Spec) -> list[Path]:
    """The images, relative to `images_dir`; pictures that earlier runs wrote below it are none."""
    folder, written = Path(spec.inference.images_dir), {path.resolve() for path in _written_folders(spec)}
    found = [path for path in find_images(folder) if written.isdisjoint(path.resolve().parents)]
    if not found:
        raise DataError(f"{folder}: holds no images")
    return [path.relative_to(folder) for path in found]


def _folders(spec: Spec, tasks: Sequence[str]) -> dict[str, Path]:
    root = results_folder(spec, "inference")
    return {task: root / task if spec.inference.mode == ALL else root for task in tasks}


def _written_folders(spec: Spec) -> list[Path]:
    """The folders that runs into this results folder may have written to, whatever their mode."""
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
            failures.append(f"{root / name}: an edge of {max(pixels.shape)} pixels, overlays have at most {MAX_EDGE}")
        else:
            yield Picture(name, pixels)


def _print_summary(folders: dict[str, Path], count: int, seconds: float) -> None:
    print(f"{count} images segmented in {seconds:.1f} s ({count / max(seconds, 1e-9):.2f} images/s)")
    for task, folder in folders.items():
        print(f"{task}: {', '.join(str(folder / name) for name in SUFFIXES)}")
