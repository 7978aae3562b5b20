"""A OneFormer of four operators as an ONNX file: it sees colours, so that what it must find can be read off a picture.

The file is put together from protobuf fields by hand (field numbers of onnx.proto): no package is needed to write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from oneformer_spec.labels import Labels
from oneformer_spec.segmentation.decode import Thresholds
from oneformer_spec.segmentation.frame import ShortestEdge
from oneformer_spec.segmentation.manifest import METADATA_KEY, Manifest
from oneformer_spec.tasks import Task, task_row

LABELS = Labels.parse(
    [
        {"id": 1, "name": "red", "isthing": 1, "color": [220, 40, 40]},
        {"id": 7, "name": "green", "isthing": 1, "color": [30, 160, 60]},
        {"id": 9, "name": "dark", "isthing": 0, "color": [90, 90, 90]},
    ],
    source="test",
)
INSTANCE_TOKEN = task_row(Task.INSTANCE)[4]
FLOAT = 1  # TensorProto.DataType

# Mask logits (4 queries) of a picture of channels -1..1: red things, green things, the dark rest, and all of it.
MASK_WEIGHTS = np.array([[10, -5, -5], [-5, 10, -5], [-10, -10, -10], [0, 0, 0]], dtype=np.float32)
MASK_BIAS = np.array([-10, -10, -20, 5], dtype=np.float32)
CLASS_LOGITS = 8 * np.eye(4, dtype=np.float32)  # query i is class i, the last one is no object
WHEN_INSTANCE = np.zeros((4, 4), dtype=np.float32)
WHEN_INSTANCE[1, 3] = 20  # asked for instances, it does not see green


RED, GREEN = (slice(16, 40), slice(16, 40)), (slice(44, 60), slice(60, 80))  # rows and columns in `make_scene`


def make_scene() -> np.ndarray:
    """64 x 96 pixels: a red and a green rectangle on black, their edges at multiples of 4."""
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    pixels[(*RED, 0)] = 255
    pixels[(*GREEN, 1)] = 255
    return pixels


def manifest(**changes: object) -> Manifest:
    """Inputs of 64 pixels per edge at least 32 padded, channels scaled to -1..1."""
    fields: dict[str, object] = {
        "labels": LABELS,
        "model": {},
        "mean": (127.5,) * 3,
        "std": (127.5,) * 3,
        "size": ShortestEdge(64, 128),
        "divisibility": 32,
        "thresholds": Thresholds(0.5, 0.5, 10),
        "model_name": "tiny",
        "producer": {"oneformer-model": "0.1.0"},
    }
    return Manifest(**(fields | changes))  # type: ignore[arg-type]


def write_model(
    path: Path,
    *,
    image: Sequence[int | str] = ("batch", 3, "height", "width"),
    length: int | str = "length",
    names: dict[str, str] | None = None,
    description: Manifest | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write the model; `names` renames inputs and outputs, `metadata` replaces the manifest's entry."""
    called = {name: name for name in ("image", "task_tokens", "class_logits", "mask_logits")} | (names or {})
    entries = {METADATA_KEY: (description or manifest()).to_json()} if metadata is None else metadata
    graph = b"".join(
        [
            node("AveragePool", [called["image"]], "pooled", kernel_shape=[4, 4], strides=[4, 4]),
            node("Conv", ["pooled", "mask_weights", "mask_bias"], called["mask_logits"]),
            node("Gather", [called["task_tokens"], "word"], "asked", axis=1),
            node("Equal", ["asked", "instance_token"], "is_instance"),
            node("Cast", ["is_instance"], "switch", to=FLOAT),
            node("Mul", ["switch", "when_instance"], "change"),
            node("Add", ["change", "always"], called["class_logits"]),
            field(2, "tiny"),
            tensor("mask_weights", MASK_WEIGHTS[:, :, None, None]),
            tensor("mask_bias", MASK_BIAS),
            tensor("word", np.array([[4]], dtype=np.int64)),  # (B, L) -> (B, 1, 1)
            tensor("instance_token", np.array([INSTANCE_TOKEN], dtype=np.float32)),
            tensor("when_instance", WHEN_INSTANCE[None]),
            tensor("always", CLASS_LOGITS[None]),
            field(11, value_info(called["image"], image)),
            field(11, value_info(called["task_tokens"], (image[0], length))),
            field(12, value_info(called["class_logits"], (image[0], 4, 4))),
            field(12, value_info(called["mask_logits"], (image[0], 4, "rows", "columns"))),
        ]
    )
    model = [field(1, 8), field(2, "hand"), field(7, graph), field(8, field(1, "") + field(2, 17))]
    model += [field(14, field(1, key) + field(2, value)) for key, value in entries.items()]
    path.write_bytes(b"".join(model))
    return path


def field(number: int, value: int | str | bytes) -> bytes:
    """One protobuf field: an integer, or a text, bytes or message with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Seven bits per byte, the lowest first."""
    head = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(byte | 0x80 for byte in head[:-1]), head[-1]])


def node(operator: str, inputs: Iterable[str], output: str, **attributes: int | list[int]) -> bytes:
    """A NodeProto in its GraphProto."""
    body = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operator)
    for name, value in attributes.items():
        if isinstance(value, list):
            body += field(5, field(1, name) + b"".join(field(8, number) for number in value) + field(20, 7))
        else:
            body += field(5, field(1, name) + field(3, value) + field(20, 2))
    return field(1, body)


def tensor(name: str, values: np.ndarray) -> bytes:
    """An initializer in its GraphProto."""
    kind = {np.dtype(np.float32): FLOAT, np.dtype(np.int64): 7}[values.dtype]
    dimensions = b"".join(field(1, edge) for edge in values.shape)
    return field(5, dimensions + field(2, kind) + field(8, name) + field(9, values.tobytes()))


def value_info(name: str, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto of floats; an axis with a name is dynamic."""
    axes = b"".join(field(1, field(1, axis) if isinstance(axis, int) else field(2, axis)) for axis in shape)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, axes)))
