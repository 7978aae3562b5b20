"""`oneformer dataset show`: draw training examples with their targets and texts, as the network gets them."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from oneformer_data.training.pipeline import Example, example_rng, from_spec, pass_order
from oneformer_data.training.tokenizer import detokenize
from oneformer_spec.files.atomic import write_output
from oneformer_spec.labels import color
from oneformer_spec.pictures.font import font
from oneformer_spec.schema import Spec

NARROWEST = 320  # minimum width in pixels, so that texts have room
FONT, LINE, MARGIN = 13, 17, 6  # pixels
OPACITY = 0.45


def draw_examples(spec: Spec, folder: Path, count: int) -> list[Path]:
    """Draw the first `count` examples of a training run as `000_panoptic.png` and so on, replacing existing files.

    Raises:
        SpecError: The spec has no training data.
        DataError: Annotations are invalid or files are missing.
        OneFormerError: The folder cannot be written.
    """
    pipeline, seed = from_spec(spec), spec.train.seed
    mean, std = np.array(spec.dataset.pixel_mean), np.array(spec.dataset.pixel_std)
    paths = []
    for position in range(count):
        number, offset = divmod(position, len(pipeline))
        index = int(pass_order(seed, number, pipeline)[offset])
        example = pipeline.example(index, example_rng(seed, position))
        picture = example.image.transpose(1, 2, 0) * std + mean
        content = io.BytesIO()
        overlay(example, picture.round().clip(0, 255).astype(np.uint8)).save(content, format="PNG")
        path = folder / f"{position:03d}_{example.task}.png"
        write_output(path, content.getvalue())
        paths.append(path)
    return paths


def overlay(example: Example, image: NDArray[np.uint8]) -> Image.Image:
    """Draw an example's targets over its image (H, W, 3), each in its own colour, with its texts below."""
    blended = image.astype(np.float32)
    for number, mask in enumerate(example.masks):
        blended[mask] = (1 - OPACITY) * blended[mask] + OPACITY * np.array(color(number))
        blended[_edge(mask)] = color(number)
    lines = caption(example)
    height, width = image.shape[:2]
    sheet = Image.new("RGB", (max(width, NARROWEST), height + LINE * len(lines) + 2 * MARGIN), "white")
    sheet.paste(Image.fromarray(blended.round().astype(np.uint8)))
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((MARGIN, height + MARGIN + LINE * number), line, fill="black", font=font(FONT))
    return sheet


def caption(example: Example) -> list[str]:
    """Return the lines below the image: name, task and number of targets, and each text with its count."""
    counts = Counter(example.text_index.tolist())
    texts = [f"{counts[number]} x {detokenize(row.tolist())}" for number, row in enumerate(example.text_tokens)]
    return [example.name, f"{example.task}: {len(example.labels)} targets", *texts]


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the inner edge (H, W) of a mask; pixels at the image border are not an edge by themselves."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner
