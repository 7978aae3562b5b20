"""The command `info`: what an exported model says about itself."""

from __future__ import annotations

import json
from pathlib import Path

from oneformer_deploy.onnx_file import OnnxFile, read_onnx_file
from oneformer_spec.frame import ShortestEdge
from oneformer_spec.manifest import Manifest


def print_info(path: Path, *, as_json: bool) -> None:
    """Print the manifest of an ONNX file, with the facts of the file; CheckpointError as in `read_onnx_file`."""
    file = read_onnx_file(path)
    manifest = file.manifest()
    if as_json:
        print(json.dumps({**manifest.to_dict(), "file": _file_facts(file)}, indent=2))
    else:
        print("\n".join(_lines(file, manifest)))


def _file_facts(file: OnnxFile) -> dict[str, object]:
    return {"bytes": file.num_bytes, "producer": file.producer, "opsets": file.opsets, "ir_version": file.ir_version}


def _lines(file: OnnxFile, manifest: Manifest) -> list[str]:
    rows = {
        "file": f"{file.path} ({file.num_bytes / 1e6:.1f} MB)",
        "model": manifest.model_name or "no name",
        "made by": ", ".join(f"{name} {version}" for name, version in manifest.producer.items()) or file.producer,
        "opset": ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in file.opsets.items()),
        "input": _input_size(manifest),
        "thresholds": f"object mask {manifest.thresholds.object_mask:g}, overlap {manifest.thresholds.overlap:g}, "
        f"at most {manifest.thresholds.topk} instances",
        "classes": str(len(manifest.labels)),
    }
    labels = [
        f"  {label.id:>5}  {'thing' if label.isthing else 'stuff'}  {label.name}  #{bytes(label.color).hex()}"
        for label in manifest.labels
    ]
    return [f"{name:<11} {value}" for name, value in rows.items()] + labels


def _input_size(manifest: Manifest) -> str:
    rule = manifest.size
    if manifest.fixed_size is not None:
        height, width = manifest.fixed_size
        return f"{width} x {height} pixels, fixed"
    if isinstance(rule, ShortestEdge):
        return f"shortest edge {rule.shortest}, longest at most {rule.longest} pixels"
    return f"fits into {rule.width} x {rule.height} pixels"
