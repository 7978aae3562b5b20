"""The command `info`: show the metadata of an exported model or engine, without the libraries that run it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from oneformer_deploy.engines.engine_file import read_engine_header
from oneformer_deploy.runtimes.onnx_metadata import read_onnx_file
from oneformer_spec.errors import UsageError
from oneformer_spec.segmentation.manifest import Manifest


@dataclass(frozen=True)
class Description:
    """What `info` shows about a model file."""

    manifest: Manifest
    num_bytes: int
    producer: str
    """The program that wrote the file."""
    rows: dict[str, str]
    """Lines of the printed table that only this kind of file has."""
    facts: dict[str, object]
    """The same for `--json`."""


def print_info(path: Path, *, as_json: bool) -> None:
    """Print the manifest and other metadata of an ONNX or engine file.

    Raises:
        UsageError: The file is a checkpoint.
        CheckpointError: The file cannot be read; see `read_onnx_file` and `read_engine_header`.
    """
    suffix = path.suffix.lower()
    if suffix == ".pth":
        raise UsageError(f"{path}: info reads .onnx, .etlt and .engine files, not checkpoints")
    description = _describe_engine(path) if suffix == ".engine" else _describe_onnx(path)
    if as_json:
        file = {"bytes": description.num_bytes, **description.facts}
        print(json.dumps({**description.manifest.to_dict(), "file": file}, indent=2))
    else:
        print("\n".join(_lines(path, description)))


def _describe_onnx(path: Path) -> Description:
    file = read_onnx_file(path)
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in file.opsets.items())
    facts = {"producer": file.producer, "opsets": file.opsets, "ir_version": file.ir_version}
    return Description(file.manifest(), file.num_bytes, file.producer, {"opset": opsets}, facts)


def _describe_engine(path: Path) -> Description:
    header = read_engine_header(path)
    facts = header.facts
    low, tuned, high = facts.batch
    rows = {
        "engine": f"{facts.library} {facts.version}, {facts.data_type}",
        "built on": facts.gpu or "a host without a GPU",
        "batch": str(low) if low == high else f"{low} to {high}, tuned for {tuned}",
    }
    return Description(header.manifest, header.num_bytes, facts.library, rows, asdict(facts))


def _lines(path: Path, description: Description) -> list[str]:
    manifest, thresholds = description.manifest, description.manifest.thresholds
    producer = ", ".join(f"{name} {version}" for name, version in manifest.producer.items())
    rows = {
        "file": f"{path} ({description.num_bytes / 1e6:.1f} MB)",
        "model": manifest.model_name or "no name",
        "made by": producer or description.producer,
        **description.rows,
        "input": _input_size(manifest),
        "thresholds": f"object mask {thresholds.object_mask:g}, overlap {thresholds.overlap:g}, "
        f"at most {thresholds.topk} instances",
        "classes": str(len(manifest.labels)),
    }
    labels = [
        f"  {label.id:>5}  {'thing' if label.isthing else 'stuff'}  {label.name}  #{bytes(label.color).hex()}"
        for label in manifest.labels
    ]
    return [f"{name:<11} {value}" for name, value in rows.items()] + labels


def _input_size(manifest: Manifest) -> str:
    if manifest.fixed_size is not None:
        height, width = manifest.fixed_size
        return f"{width} x {height} pixels, fixed"
    return str(manifest.size)
