"""Pictures of training examples."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from oneformer_data.tools.show import caption, draw_examples
from oneformer_data.training.pipeline import example_rng, from_spec, pass_order
from oneformer_spec.errors import OneFormerError
from oneformer_spec.plugins.option import Entry
from oneformer_spec.schema import Augmentation, DatasetSection, Spec, Split


@pytest.fixture
def spec(folder) -> Spec:
    folder.document["categories"] = [
        {"id": 3, "name": "square", "isthing": 1},
        {"id": 7, "name": "ground", "isthing": 0},
    ]
    folder.save()
    split = Split(images=f"{folder.root}/images", annotations=f"{folder.json}", panoptic=f"{folder.root}/panoptic")
    augmentation = Augmentation(train_crop_size=(48, 64), color_prob=0.0)
    dataset = DatasetSection(train=split, augmentation=augmentation, task_prob_train={"panoptic": 1.0}, min_scale=1.0)
    model = replace(Spec().model, sem_seg_head=replace(Spec().model.sem_seg_head, num_classes=2))
    return replace(Spec(), dataset=dataset, model=model)


def test_examples_are_drawn_with_their_targets_and_texts(spec, tmp_path):
    paths = draw_examples(spec, tmp_path / "show", 3)
    assert [path.name for path in paths] == ["000_panoptic.png", "001_panoptic.png", "002_panoptic.png"]
    with Image.open(paths[0]) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[1] == 320
    assert pixels.shape[0] > 48
    assert (pixels[48:] < 100).any()  # text
    assert (pixels[:, 64:] == 255)[:48].all()  # beside the picture the sheet is white


def test_what_is_drawn_is_what_training_sees(spec, tmp_path):
    pipeline, seed = from_spec(spec), spec.train.seed
    order = pass_order(seed, 0, pipeline)
    assert sorted(order) == [0, 1]
    example = pipeline.example(int(order[0]), example_rng(seed, 0))
    lines = caption(example)
    assert lines[0] == example.name
    assert lines[1] == f"panoptic: {len(example.labels)} targets"
    assert "1 x a photo with a ground" in lines
    assert lines[-1].endswith(" x a panoptic photo")


def negative():
    """Return a transform to the negative."""
    return lambda sample, rng: replace(sample, image=255 - sample.image)


def test_transforms_of_plugins_are_shown(spec, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "steps", SimpleNamespace(negative=negative))
    plain = draw_examples(spec, tmp_path / "plain", 1)
    augmentation = replace(spec.dataset.augmentation, extra=(Entry("steps:negative"),))
    changed = draw_examples(replace(spec, dataset=replace(spec.dataset, augmentation=augmentation)), tmp_path / "x", 1)
    assert plain[0].read_bytes() != changed[0].read_bytes()


def test_a_folder_that_cannot_be_written_is_named(spec, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OneFormerError, match=r"file/000_panoptic\.png: cannot be written: "):
        draw_examples(spec, tmp_path / "file", 1)
