"""The command `inference`: a model file and a folder of images in, pictures, label maps and segments out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.files import MAX_EDGE, SUFFIXES, write_results
from oneformer_deploy.progress import Progress
from oneformer_spec.decode import Thresholds
from oneformer_spec.entry import note, report
from oneformer_spec.errors import DataError, OneFormerError
from oneformer_spec.frame import SizeRule
from oneformer_spec.images import find_images, read_image
from oneformer_spec.manifest import image_size_rule, size_rule
from oneformer_spec.plugins import registry, resolve
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
    path, images = spec.inference.checkpoint or spec.inference.trt_engine, _images(spec)
    segmenter = _tuned(_open(path, spec), spec)
    rule = _rule(spec, segmenter, path)
    _say_unused(spec)
    with RunFolder.open(spec, "inference") as folder:
        job = Job(segmenter, rule, _folders(folder.path, spec.inference.mode))
        progress = Progress(len(images))
        failures = _segment_all(job, Path(spec.inference.images_dir), images, _batch_size(spec), progress)
        folder.status("RUNNING", progress.line, kpi={"images": len(images) - len(failures), "failed": len(failures)})
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


def _open(path: str, spec: Spec) -> Segmenter:
    """The model behind the runtime that its suffix chooses."""
    runtime = registry().runtime(path)
    device = "auto" if spec.inference.gpu_ids[0] == 0 else f"cuda:{spec.inference.gpu_ids[0]}"
    segmenter: Segmenter = resolve(runtime.target)(path, device, num_threads=spec.inference.num_threads)
    return segmenter


def _tuned(segmenter: Segmenter, spec: Spec) -> Segmenter:
    """The segmenter with those thresholds that the spec moves away from their defaults; the manifest has the others."""
    ours, defaults, trained = spec.model.test, Spec().model.test, segmenter.manifest.thresholds

    def choose(field: str, known: float) -> float:
        value: float = getattr(ours, field)
        return known if value == getattr(defaults, field) else value

    thresholds = Thresholds(
        object_mask=choose("object_mask_threshold", trained.object_mask),
        overlap=choose("overlap_threshold", trained.overlap),
        topk=int(choose("test_topk_per_image", trained.topk)),
    )
    manifest = replace(segmenter.manifest, thresholds=thresholds)
    return Segmenter(segmenter.run, manifest, fixed_batch=segmenter.fixed_batch)


def _rule(spec: Spec, segmenter: Segmenter, path: str) -> SizeRule | None:
    """The input size that the spec asks for; None leaves it to the manifest."""
    rule = image_size_rule(spec.inference.image_size)
    if rule is None and size_rule(spec) != size_rule(Spec()):
        rule = size_rule(spec)
    fixed = segmenter.manifest.fixed_size
    if fixed is not None and spec.inference.image_size is not None:
        note(f"inference.image_size: {path} was exported at {fixed[1]} x {fixed[0]} pixels, which wins")
    return rule


def _say_unused(spec: Spec) -> None:
    for field in ("num_gpus", "num_nodes"):
        value = getattr(spec.inference, field)
        if value > 1:
            note(f"inference.{field}: {value} asked for, the command runs in one process on one device")


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
        progress.add(len(names))
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
