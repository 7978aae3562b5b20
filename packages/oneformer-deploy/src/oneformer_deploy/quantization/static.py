"""Quantize an ONNX file: its weights only, or as many layers to INT8 as the scores allow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneformer_deploy.extras import require_packages
from oneformer_deploy.quantization import report as quantize_report
from oneformer_deploy.quantization.scratch import safe_temporary_folder
from oneformer_deploy.runtimes.onnx_metadata import read_model, read_onnx_file
from oneformer_spec.commands.run_folder import RunFolder
from oneformer_spec.errors import OneFormerError, SpecError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import check_installed, encrypted
from oneformer_spec.hooks import ChooseLayers
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.model_file import open_model, runtime_of

if TYPE_CHECKING:
    import onnx

    from oneformer_deploy.quantization.scores import OpenModel
    from oneformer_deploy.quantization.search import SearchResult

NAME, REPORT = "model_int8", "quantize.json"
SUFFIXES = (".onnx", ".etlt")
METADATA_KEY = "oneformer_quantized"
# Options of onnxruntime's quantizer that `quantize.backend_kwargs` may set; onnxruntime itself ignores misspelt ones.
OPTIONS = (
    "ActivationSymmetric",
    "CalibMovingAverage",
    "CalibMovingAverageConstant",
    "CalibTensorRangeSymmetric",
    "MinimumRealRange",
    "SmoothQuant",
    "SmoothQuantAlpha",
)


def run(spec: Spec, choose: ChooseLayers) -> None:
    """Write the quantized model and `quantize.json` into the results folder.

    The model is called `model_int8` and has the suffix of the source, .onnx or .etlt. With `encryption_key` it is
    encrypted; the source may be encrypted, too.

    Raises:
        SpecError: The source is not an ONNX file, an option or layer does not exist, or calibration images are missing.
        UsageError: A package is missing, or the runtime set for `evaluate` cannot read the file.
        CheckpointError: The file cannot be read.
        OneFormerError: No layer can be quantized within `quantize.max_metric_drop`.
    """
    options = spec.quantize
    source = Path(options.model_path or "")
    if source.suffix.lower() not in SUFFIXES:
        raise SpecError(
            f'quantize.model_path: found "{source}"; onnxruntime quantizes {" and ".join(SUFFIXES)} files; '
            "for .pth files set backend: torchao"
        )
    _check_options(spec)
    runtime_of(str(source), spec.evaluate)
    manifest = read_onnx_file(source, spec.encryption_key).manifest()
    require_packages("quantize", ("onnx", "sympy"))
    if spec.encryption_key:
        check_installed()
    from oneformer_deploy.engines import precision
    from oneformer_deploy.quantization import int8_graph

    model = read_model(source, spec.encryption_key)
    if int8_graph.is_quantized(model) or any(entry.key == METADATA_KEY for entry in model.metadata_props):
        raise OneFormerError(f"{source}: is already quantized; quantize the original file instead")
    precision.name_nodes(model)
    precision.inline_constants(model.graph)
    if options.mode == "static_ptq":
        with safe_temporary_folder(source):
            _static(spec, source, manifest, model, choose)
    else:
        _weights_only(spec, source, model, choose)


def _check_options(spec: Spec) -> None:
    options, static = spec.quantize, spec.quantize.mode == "static_ptq"
    errors = []
    allowed = ("minmax", "max", "entropy") if static else ("minmax", "max", "rtn_dq")
    if options.algorithm not in (None, *allowed):
        errors.append(
            f"quantize.algorithm: found {options.algorithm}, expected one of {', '.join(allowed)} "
            f"with mode {options.mode}"
        )
    if static and not spec.dataset.quant_calibration_dataset.images_dir:
        errors.append(
            "dataset.quant_calibration_dataset.images_dir: is not set; static_ptq needs images to measure each layer's "
            "range of values"
        )
    allowed_options = OPTIONS if static else ()
    errors += [
        f"quantize.backend_kwargs: no such option: {name!r}; available with {options.mode}: "
        f"{', '.join(allowed_options) or 'none'}"
        for name in options.backend_kwargs or {}
        if name not in allowed_options
    ]
    if errors:
        raise SpecError(errors)


def _weights_only(spec: Spec, source: Path, model: onnx.ModelProto, choose: ChooseLayers) -> None:
    from oneformer_deploy.quantization import weight_only

    kinds = weight_only.layers(model.graph)
    chosen = choose(kinds)
    unchanged = [name for name in kinds if name not in set(chosen)]
    with RunFolder.open(spec, "quantize") as folder:
        weight_only.store_int8(model, chosen)
        _write(_target(spec, folder), model, spec, chosen)
        _finish(spec, folder, source, {"quantized": chosen, "kept": unchanged})


def _static(spec: Spec, source: Path, manifest: Manifest, model: onnx.ModelProto, choose: ChooseLayers) -> None:
    from oneformer_deploy.quantization import int8_graph
    from oneformer_deploy.quantization.calibration import open_calibration
    from oneformer_deploy.quantization.scores import make_scorer
    from oneformer_deploy.quantization.search import LogitDistance, search
    from oneformer_deploy.runtimes.onnxruntime_runtime import providers

    options = spec.quantize
    device = "auto" if options.device in (None, "trt") else str(options.device)
    runs_on = providers(source, device)
    calibration = open_calibration(
        spec.dataset.quant_calibration_dataset.images_dir, manifest, model.graph.input, batch_size=1
    )
    target = int8_graph.TENSORRT if options.device == "trt" else int8_graph.CPU
    feeds = calibration.feeds()
    with (
        tempfile.TemporaryDirectory(prefix="oneformer-quantize-") as scratch,
        int8_graph.Quantizer(
            model, feeds, target, options.algorithm or "minmax", runs_on, dict(options.backend_kwargs or {})
        ) as quantizer,
    ):
        kinds = {quantizer.origin(name): kind for name, kind in quantizer.layers.items()}
        wanted = set(choose(kinds))
        layers = [name for name in quantizer.layers if quantizer.origin(name) in wanted]
        with RunFolder.open(spec, "quantize") as folder:
            open_file = _opener(spec)
            score = make_scorer(spec, source, calibration.paths, Path(scratch), open_file)
            before = score(source)

            def write_candidate(chosen: list[str]) -> Path:
                path = Path(scratch) / "candidate.onnx"
                _write(path, quantizer.quantized(chosen), spec, chosen)
                return path

            result = search(
                layers,
                before=before,
                budget=options.max_metric_drop,
                score=lambda chosen: score(write_candidate(chosen)),
                distance=LogitDistance(source, write_candidate, feeds, open_file),
                report=lambda line: folder.status("RUNNING", line),
            )
            _write(_target(spec, folder), quantizer.quantized(result.layers), spec, result.layers)
            _finish(spec, folder, source, _facts(result, before, score.kind, list(quantizer.layers)))


def _opener(spec: Spec) -> OpenModel:
    """Return a function that opens model files as `evaluate` would, so scores and times are those of its runtime."""
    return lambda path: open_model(str(path), spec, spec.evaluate)


def _facts(result: SearchResult, before: dict[str, float], kind: str, layers: list[str]) -> dict[str, Any]:
    unchanged = [name for name in layers if name not in set(result.layers)]
    return {
        "scores_are": kind,
        "scores_before": before,
        "scores_after": result.scores,
        "evaluations": result.evaluations,
        "distances": result.distances,
        "quantized": result.layers,
        "kept": unchanged,
    }


def _target(spec: Spec, folder: RunFolder) -> Path:
    """Return the path of the quantized model; only an encrypted file may have the suffix .etlt."""
    suffix = Path(spec.quantize.model_path or "").suffix.lower()
    return folder.path / f"{NAME}{suffix if spec.encryption_key else SUFFIXES[0]}"


def _write(target: Path, model: onnx.ModelProto, spec: Spec, layers: list[str]) -> None:
    """Write the model; its metadata records the quantization settings beside the manifest."""
    import json

    settings = {
        "mode": spec.quantize.mode,
        "algorithm": spec.quantize.algorithm,
        "device": spec.quantize.device,
        "layers": len(layers),
    }
    others = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(settings))
    write_atomically(target, encrypted(model.SerializeToString(), spec.encryption_key))


def _finish(spec: Spec, folder: RunFolder, source: Path, facts: dict[str, Any]) -> None:
    target = _target(spec, folder)
    document = quantize_report.document(spec, source, target, facts, _opener(spec))
    quantize_report.write(folder.path / REPORT, document)
    print(quantize_report.table(document))
    print(f"\n{target}\n{folder.path / REPORT}")
