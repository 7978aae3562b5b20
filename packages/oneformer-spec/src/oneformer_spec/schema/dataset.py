"""Section `dataset`: where images and annotations are, and what happens to them on the way to the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneformer_spec.plugins.option import Entry, open_section, option, section

TASK_PROBABILITIES = {"semantic": 0.33, "instance": 0.33, "panoptic": 0.34}

Paths = str | tuple[str, ...] | None
"""One path, several that are read one after the other, or none."""


@dataclass(frozen=True)
class Split:
    """The images and annotations of one part of the data."""

    type: str | None = option(
        None,
        names="dataset",
        class_path=True,
        help="Format of the annotations; null infers it from the name of the file.",
        common=True,
    )
    images: Paths = option(None, help="Folder, or folders, that the annotations' image names start from.", common=True)
    annotations: Paths = option(
        None, help="Annotation file, or files; of tar shards their index, by path or URL.", common=True
    )
    panoptic: Paths = option(
        None, help="Folder, or folders, with the PNG maps of COCO panoptic annotations.", common=True
    )
    names: Paths = option(
        None, help="Name of the data set, or one per data set, in reports; null takes the annotation files' names."
    )
    batch_size: int = option(1, minimum=1, help="Images per step and device.", common=True)
    num_workers: int = option(
        1, minimum=0, acts_when_set=True, help="Processes that load the split; unset takes dataset.workers."
    )


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, and how large evaluation images are."""

    resize: str = option(
        "lsj",
        choices=("lsj", "shortest_edge"),
        help="How training images are scaled: lsj draws from min_scale..max_scale, shortest_edge from train_min_size.",
    )
    train_min_size: tuple[int, ...] = option(
        (800,),
        minimum=1,
        min_length=1,
        acts_when_set=True,
        help="Lengths of the shortest edge in pixels to draw from, for shortest_edge.",
    )
    train_max_size: int = option(1333, minimum=32, help="Cap of the longest edge in pixels, for shortest_edge.")
    train_crop_size: tuple[int, ...] = option(
        (1024, 1024), minimum=1, length=2, help="Height and width in pixels of a training crop.", common=True
    )
    test_min_size: int = option(
        800, minimum=32, from_model=True, help="Length of the shortest edge in pixels in evaluation.", common=True
    )
    test_max_size: int = option(
        1333, minimum=32, from_model=True, help="Cap of the longest edge in pixels in evaluation.", common=True
    )
    fixed_padding: bool = option(True, help="Pad every training crop to train_crop_size, so that all steps are alike.")
    flip_prob: float = option(0.5, minimum=0, maximum=1, help="Probability of mirroring an image left to right.")
    color_prob: float = option(1.0, minimum=0, maximum=1, help="Probability of SSD colour jitter.")
    rotation_prob: float = option(0.0, minimum=0, maximum=1, help="Probability of a rotation within 15 degrees.")
    blur_prob: float = option(0.0, minimum=0, maximum=1, help="Probability of a Gaussian blur.")
    erasing_prob: float = option(0.0, minimum=0, maximum=1, help="Probability of erasing a rectangle.")
    extra: tuple[Entry, ...] = option(
        (), names="transform", help="Steps of plugins, in this order: a name, or {type: NAME or module:Class, options}."
    )


@dataclass(frozen=True)
class QuantCalibrationDataset:
    """The images that measure value ranges for static quantization."""

    images_dir: str = option("", help="Folder with calibration images.")


@dataclass(frozen=True)
class DatasetSection:
    """Everything about data."""

    train: Split = section(Split, help="Data to train on.")
    val: Split = section(Split, help="Data to validate on while training.")
    test: Split = section(Split, help="Data of evaluate; without it evaluate takes dataset.val.")
    label_map: str = option(
        "", help="JSON list of the categories, {id, name, isthing, color}, in class order.", common=True
    )
    contiguous_id: bool = option(
        True, help="True takes the position in label_map as the class index, false takes id - 1."
    )
    dataset_type: str = option(
        "default",
        choices=("default", "serialized"),
        help="How annotations are kept: serialized holds them once in memory shared by all workers.",
    )
    workers: int = option(8, minimum=0, help="Loader processes per device of a split without num_workers.", common=True)
    pin_memory: bool = option(True, help="Copy batches into page-locked memory for a faster transfer to a GPU.")
    allow_outside_root: bool = option(False, help="Let file names in annotations leave their root folder.")
    pixel_mean: tuple[float, ...] = option(
        (123.675, 116.28, 103.53), length=3, help="Mean of red, green and blue (0..255) taken off each pixel."
    )
    pixel_std: tuple[float, ...] = option(
        (58.395, 57.12, 57.375), above=0, length=3, help="Deviation of red, green and blue (0..255) to divide by."
    )
    augmentation: Augmentation = section(Augmentation, help="Augmentation in training, sizes in evaluation.")
    min_scale: float = option(
        0.1, above=0, help="Smallest factor of large-scale jitter on train_crop_size.", common=True
    )
    max_scale: float = option(
        2.0, above=0, help="Largest factor of large-scale jitter on train_crop_size.", common=True
    )
    cutmix_prob: float = option(0.0, minimum=0, maximum=1, help="Probability of pasting a part of another image.")
    image_size: int | tuple[int, int] | None = option(
        None,
        from_model=True,
        minimum=32,
        length=2,
        help="Evaluation size in pixels, [width, height] or one for both; null takes test_min_size and test_max_size.",
        common=True,
    )
    task_prob_train: Mapping[str, float] = option(
        TASK_PROBABILITIES,
        acts_when_set=True,
        minimum=0,
        maximum=1,
        names="task",
        keys=tuple(TASK_PROBABILITIES),
        help="Probability of each task in training; they sum to 1, a task left out counts as 0.",
    )
    task_prob_val: Mapping[str, float] = option(
        TASK_PROBABILITIES,
        minimum=0,
        maximum=1,
        names="task",
        keys=tuple(TASK_PROBABILITIES),
        help="Accepted for compatibility, no effect: every task is validated.",
        no_effect="validation measures every task",
    )
    task_seq_len: int = option(77, minimum=8, help="Length in tokens of the sentence that names the task.")
    max_seq_len: int = option(77, minimum=8, help="Length in tokens of the texts that describe an image's targets.")
    quant_calibration_dataset: QuantCalibrationDataset = section(
        QuantCalibrationDataset, help="Calibration data of quantize."
    )
    formats: Mapping[str, Any] = open_section("dataset", help="Options of annotation formats that plugins bring.")
