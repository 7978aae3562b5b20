"""From samples to training examples: augment, draw a task, make its targets and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from oneformer_data.datasets import DataSet, allowed_tasks, data_set, shuffled
from oneformer_data.opening.loading import joined, open_parts, read_labels
from oneformer_data.sample import Sample
from oneformer_data.training import colors, transforms
from oneformer_data.training.cutmix import cutmix
from oneformer_data.training.plugin_transforms import PluginTransform
from oneformer_data.training.targets import targets, texts
from oneformer_data.training.tokenizer import prompt_row, tokenize
from oneformer_data.training.transforms import Color, Transform
from oneformer_spec.errors import SpecError
from oneformer_spec.labels import Labels
from oneformer_spec.plugins.annotation_formats import formats_for
from oneformer_spec.plugins.task_declarations import in_order, with_plugin_tasks
from oneformer_spec.schema import DatasetSection, Spec
from oneformer_spec.segmentation.frame import Size, normalise
from oneformer_spec.segmentation.manifest import size_rule
from oneformer_spec.tasks import TASKS

_LAST_RESORT = 1e-12  # of a task beside one that is trained


@dataclass(frozen=True)
class Example:
    """One training input: N targets, T texts of which U differ, tokens of length L.

    `image` float32 (3, H, W), normalised; `task_tokens` float32 (L,); `labels` int64 (N,); `masks` bool (N, H, W);
    `text_tokens` int64 (U, L); `text_index` int64 (T,) into them.
    """

    name: str
    task: str
    image: NDArray[np.float32]
    task_tokens: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]
    text_tokens: NDArray[np.int64]
    text_index: NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How an example is written: normalisation, the size to pad to (None: no padding), number and length of texts."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    padded: Size | None
    num_texts: int
    text_length: int
    task_length: int


class TrainingPipeline:
    """Training examples by index; everything random comes from the generator that the caller gives."""

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: Labels,
        *,
        augment: Sequence[Transform],
        task_probabilities: Mapping[str, float],
        layout: Layout,
        cutmix_probability: float = 0.0,
    ) -> None:
        self.samples: DataSet = data_set(samples)
        self._labels = labels
        self._augment = tuple(augment)
        self._probabilities = task_probabilities
        self._layout = layout
        self._cutmix_probability = cutmix_probability

    def __len__(self) -> int:
        return len(self.samples)

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """Return one example; the same index and generator state give the same one."""
        task = draw_task(self._probabilities, with_plugin_tasks(self.samples.tasks_at(index)), rng)
        sample = self._augmented(index, rng)
        if self._cutmix_probability and rng.random() < self._cutmix_probability:
            part = self.samples.part_of(index)
            other = self._augmented(part[int(rng.integers(len(part)))], rng)
            sample = cutmix(sample, other, rng, fill=_color(self._layout.mean))
        written = self._layout
        found = targets(sample, task, written.padded)
        sentences = texts(task, [self._labels[index].name for index in found.labels], written.num_texts)
        unique = {sentence: position for position, sentence in enumerate(dict.fromkeys(sentences))}
        return Example(
            name=sample.name,
            task=task,
            image=normalise(sample.image, written.mean, written.std, padded=written.padded),
            task_tokens=np.array(prompt_row(task, written.task_length), dtype=np.float32),
            labels=found.labels,
            masks=found.masks,
            text_tokens=np.array([tokenize(sentence, written.text_length) for sentence in unique], dtype=np.int64),
            text_index=np.array([unique[sentence] for sentence in sentences], dtype=np.int64),
        )

    def _augmented(self, index: int, rng: np.random.Generator) -> Sample:
        sample = self.samples[index]
        for step in self._augment:
            sample = step(sample, rng)
        return sample


def pass_order(seed: int, number: int, samples: Sized) -> NDArray[np.int64]:
    """Return the order of samples, or of a pipeline's, in one pass of training over them, counted from 0."""
    if isinstance(samples, TrainingPipeline):
        samples = samples.samples
    return shuffled(samples, np.random.default_rng([seed, 0, number]))


def example_rng(seed: int, position: int) -> np.random.Generator:
    """Return the source of every random choice about the example at a position of training, counted from 0."""
    return np.random.default_rng([seed, 1, position])


def from_spec(spec: Spec) -> TrainingPipeline:
    """Open `dataset.train` and return the pipeline that the spec describes.

    Raises:
        SpecError: A path is not set, or the number of classes disagrees with the label map.
        DataError: Annotations are wrong or files are missing.
    """
    dataset = spec.dataset
    labels = read_labels(spec)
    parts = open_parts(dataset, "train", labels)
    _check_tasks(spec, parts)
    return TrainingPipeline(
        joined(parts),
        labels,
        augment=augmentations(dataset),
        task_probabilities=dataset.task_prob_train,
        layout=_layout(spec, _crop_size(dataset) if dataset.augmentation.fixed_padding else None),
        cutmix_probability=dataset.cutmix_prob,
    )


def for_validation(spec: Spec, samples: Sequence[Sample], labels: Labels) -> TrainingPipeline:
    """Return the examples that a validation loss is computed on: whole pictures at evaluation size, not augmented.

    Tasks are drawn as in training; a task that is not trained is drawn only where a sample has targets for no other.
    """
    probabilities = spec.dataset.task_prob_train
    trained = trained_tasks(probabilities)
    return TrainingPipeline(
        samples,
        labels,
        augment=[partial(transforms.fit, rule=size_rule(spec))],
        task_probabilities=dict.fromkeys(TASKS, _LAST_RESORT) | {task: probabilities[task] for task in trained},
        layout=_layout(spec, padded=None),
    )


def _layout(spec: Spec, padded: Size | None) -> Layout:
    return Layout(
        mean=tuple(spec.dataset.pixel_mean),
        std=tuple(spec.dataset.pixel_std),
        padded=padded,
        num_texts=spec.model.one_former.num_object_queries - spec.model.text_encoder.n_ctx,
        text_length=spec.dataset.max_seq_len,
        task_length=spec.dataset.task_seq_len,
    )


def draw_task(probabilities: Mapping[str, float], allowed: Sequence[str], rng: np.random.Generator) -> str:
    """Return one of the allowed tasks, drawn by their probabilities among themselves."""
    tasks = in_order([task for task in allowed if probabilities.get(task, 0) > 0])
    weights = np.array([probabilities[task] for task in tasks])
    return tasks[rng.choice(len(tasks), p=weights / weights.sum())]


def trained_tasks(probabilities: Mapping[str, float]) -> tuple[str, ...]:
    """Return the tasks that training draws, in the order of the installed ones."""
    return in_order([task for task, probability in probabilities.items() if probability > 0])


def plugin_tokens(spec: Spec) -> dict[str, list[int]]:
    """Return the row of token ids of each trained task that is a plugin's, which a model file holds beside ours.

    Raises:
        SpecError: A prompt is longer than `dataset.task_seq_len`.
    """
    tasks = (task for task in trained_tasks(spec.dataset.task_prob_train) if task not in TASKS)
    return {task: list(prompt_row(task, spec.dataset.task_seq_len)) for task in tasks}


def _check_tasks(spec: Spec, parts: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse probabilities that the user set for tasks without targets, and data that no task is drawn for."""
    probabilities = spec.dataset.task_prob_train
    wanted = trained_tasks(probabilities)
    have = {name: allowed_tasks(samples) for name, samples in parts.items()}
    if "dataset.task_prob_train" in spec.written:
        for task in wanted:
            if not any(task in tasks for tasks in have.values()):
                raise SpecError(
                    f"dataset.task_prob_train: {task} has the probability {probabilities[task]}, but "
                    f"dataset.train.annotations has no targets for it; formats with them: {formats_for(task)}"
                )
    for name, tasks in have.items():
        if not set(tasks) & set(wanted):
            raise SpecError(
                f"dataset.task_prob_train: {name} has targets for {', '.join(tasks)} only, whose probability is 0"
            )


def augmentations(dataset: DatasetSection) -> list[Transform]:
    """Return the augmentations of a spec in the order in which they act; colours are changed on the small crop.

    Those of plugins act last, on the finished crop, before cut-mix joins two samples.
    """
    wanted = dataset.augmentation
    crop = _crop_size(dataset)
    lsj = partial(transforms.large_scale_jitter, crop=crop, min_scale=dataset.min_scale, max_scale=dataset.max_scale)
    edge = partial(transforms.shortest_edge, crop=crop, sizes=wanted.train_min_size, longest=wanted.train_max_size)
    fill = _color(dataset.pixel_mean)
    chosen: list[tuple[float, Callable[..., Sample]]] = [
        (wanted.rotation_prob, partial(transforms.rotate, fill=fill)),
        (wanted.color_prob, colors.color),
        (wanted.blur_prob, colors.blur),
        (wanted.erasing_prob, partial(transforms.erase, fill=fill)),
    ]
    return [
        lsj if wanted.resize == "lsj" else edge,
        partial(transforms.flip, probability=wanted.flip_prob),
        *(partial(step, probability=probability) for probability, step in chosen if probability > 0),
        *(PluginTransform(entry, largest=crop if wanted.fixed_padding else None) for entry in wanted.extra),
    ]


def _color(mean: Sequence[float]) -> Color:
    """Return the mean colour, which normalising makes 0, as a pixel."""
    red, green, blue = (min(max(round(value), 0), 255) for value in mean)
    return red, green, blue


def _crop_size(dataset: DatasetSection) -> Size:
    height, width = dataset.augmentation.train_crop_size
    return height, width
