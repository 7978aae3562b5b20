"""The command `inference`: a model file and a folder of images in, pictures, label maps and segments out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.files import MAX_EDGE, SUFFIXES, write_results
from oneformer_spec.entry import report
from oneformer_spec.errors import DataError, OneFormerError
from oneformer_spec.frame import SizeRule
from oneformer_spec.images import find_images, read_image
from oneformer_spec.model_file import input_rule, model_path, open_model
from oneformer_spec.progress import Progress
from oneformer_spec.results import Segmentation
from oneformer_spec.run_folder import RunFolder, results_folder
from oneformer_spec.schema import Spec
from oneformer_spec.segmenter import Segmenter
from oneformer_spec.tasks import TASKS, Task


@dataclass(frozen=True)
class Picture:
    """One image: its path below `images_dir`, and its pixels, RGB (H, W, 3)."""

    name: Path
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """What is run on every image and where its results go, by task."""

    segmenter: Segmenter
    rule: SizeRule | None
    folders: dict[Task, Path]


def run(spec: Spec) -> None:
    """Segment every image below `inference.images_dir`; nothing is written before model and images are found.

    An image that cannot be read costs its own results only: the others are done first.

    Raises:
        UsageError: No installed runtime reads the model file.
        DataError: The folder has no images, or some failed: the last of one line for each.
    """
    path, images = model_path(spec.inference, "inference"), _images(spec)
    segmenter = open_model(path, spec, spec.inference)
    rule = input_rule(segmenter, spec, spec.inference)
    with RunFolder.open(spec, "inference") as folder:
        job = Job(segmenter, rule, _folders(folder.path, spec.inference.mode))
        progress = Progress("inference", "images", report=lambda line, eta: folder.status("RUNNING", line, eta=eta))
        failures = _segment_all(job, Path(spec.inference.images_dir), images, _batch_size(spec), progress)
        _print_summary(job, len(images) - len(failures), progress.seconds)
        for line in failures[:-1]:
            report(line)
        if failures:
            raise DataError(failures[-1])


def _images(spec: Spec) -> list[Path]:
    """The images, relative to `images_dir`; pictures that earlier runs wrote below it are none."""
    folder, results = Path(spec.inference.images_dir), results_folder(spec, "inference").resolve()
    written = {results / task / name for task in ("", *TASKS) for name in SUFFIXES}
    found = [path for path in find_images(folder) if written.isdisjoint(path.resolve().parents)]
    if not found:
        raise DataError(f"{folder}: holds no images")
    return [path.relative_to(folder) for path in found]


def _folders(root: Path, mode: str) -> dict[Task, Path]:
    return {task: root / task.value for task in TASKS} if mode == "all" else {Task(mode): root}


def _batch_size(spec: Spec) -> int:
    return spec.dataset.test.batch_size if spec.inference.batch_size == -1 else spec.inference.batch_size


def _segment_all(job: Job, root: Path, images: Sequence[Path], batch_size: int, progress: Progress) -> list[str]:
    """Write the results of all images that can be read; returns one line for each of the others."""
    failures: list[str] = []
    for start in range(0, len(images), batch_size):
        names = images[start : start + batch_size]
        pictures = list(_read(root, names, failures))
        try:
            for task, folder in job.folders.items():
                for picture, result in zip(pictures, _predict(job, pictures, task), strict=True):
                    _write(folder, picture, result, job)
        except MemoryError:
            failures += [f"{root / picture.name}: too large for this machine's memory" for picture in pictures]
        progress(start + len(names), len(images))
    return failures


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


def _predict(job: Job, pictures: Sequence[Picture], task: Task) -> list[Segmentation]:
    return job.segmenter.predict([picture.pixels for picture in pictures], task, rule=job.rule)


def _write(folder: Path, picture: Picture, result: Segmentation, job: Job) -> None:
    try:
        write_results(folder, picture.name, picture.pixels, result, job.segmenter.manifest.labels)
    except OSError as error:
        raise OneFormerError(
            f"{folder}: cannot write the results of {picture.name}: {error.strerror or error}"
        ) from error


def _print_summary(job: Job, count: int, seconds: float) -> None:
    print(f"{count} images segmented in {seconds:.1f} s ({count / max(seconds, 1e-9):.2f} images/s)")
    for task, folder in job.folders.items():
        print(f"{task.value}: {', '.join(str(folder / name) for name in SUFFIXES)}")
