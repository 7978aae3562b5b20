"""The command `export`: a checkpoint becomes an ONNX file that knows everything about itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from oneformer_model.weights import sources
from oneformer_model.weights.sources import Weights
from oneformer_spec.commands.exit import note
from oneformer_spec.commands.run_folder import RunFolder, results_folder
from oneformer_spec.errors import OneFormerError, SpecError, UsageError
from oneformer_spec.files.atomic import write_output
from oneformer_spec.files.encryption import check_installed, encrypted
from oneformer_spec.schema import ExportSection, Spec

NEEDED = ("onnx", "onnxruntime", "onnxscript", "onnxslim", "onnx_ir")
FILE_NAME = "model.onnx"


def run(spec: Spec, *, force: bool = False) -> None:
    """Write `export.checkpoint` as ONNX; a file that is there stays unless `force` is given.

    Raises:
        SpecError: No checkpoint is named, or the spec asks for a feature or a device that is not there.
        UsageError: A package is missing, or the file exists.
        CheckpointError: The checkpoint cannot be read.
        OneFormerError: The graph does not compute what the checkpoint does; nothing is written.
    """
    options = spec.export
    if not options.checkpoint:
        raise SpecError("export.checkpoint: names no file; set it to the checkpoint to export")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"export needs {', '.join(missing)}; install it with: python -m pip install 'oneformer-model[onnx]'"
        )
    target = Path(options.onnx_file) if options.onnx_file else results_folder(spec, "export") / FILE_NAME
    if target.exists() and not force:
        raise UsageError(f"{target}: exists; replace it with --force, or name another export.onnx_file")
    if spec.encryption_key:
        check_installed()
    found = sources.read(options.checkpoint, key=spec.encryption_key)
    device = _device(options)
    with RunFolder.open(spec, "export"):
        _export(found, options, device, target, spec.encryption_key)


def _export(found: Weights, options: ExportSection, device: torch.device, target: Path, key: str | None) -> None:
    from oneformer_model.onnx_export.graph import Shape, write_graph  # needs onnx

    batch = None if options.batch_size == -1 else options.batch_size
    shape = Shape(batch, options.input_height, options.input_width, options.dynamic_size)
    rule = found.manifest.size
    if not options.dynamic_size and not rule.is_met_by((options.input_height, options.input_width)):
        note(
            f"export.input_width, export.input_height: the file will see images at {options.input_width} x "
            f"{options.input_height} pixels, the checkpoint was made for others: {rule}. "
            "export.dynamic_size=true leaves the size open"
        )
    try:
        graph = write_graph(
            found.model(), found.manifest, shape, opset=options.opset_version, device=device, verbose=options.verbose
        )
    except OneFormerError as error:
        raise OneFormerError(f"{target}: not written: {error}") from error
    write_output(target, encrypted(graph.model.SerializeToString(), key))
    nodes = f"{graph.num_nodes} nodes, {graph.num_nodes_before} before slimming"
    facts = [f"opset {options.opset_version}", f"input {shape}", nodes, "the checkpoint's logits"]
    print(f"exported: {target} ({', '.join([*facts, *(['encrypted'] if key else [])])})")


def _device(options: ExportSection) -> torch.device:
    if options.on_cpu:
        return torch.device("cpu")
    if options.gpu_id >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise SpecError(f"export.gpu_id: {options.gpu_id}: torch sees {count} GPUs here; set export.on_cpu: true")
    return torch.device("cuda", options.gpu_id)
