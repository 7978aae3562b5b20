"""The command `gen_trt_engine`: build a TensorRT engine from an exported model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from oneformer_deploy.engines import library as tensorrt_library
from oneformer_deploy.engines.engine_file import EngineFacts, EngineFile
from oneformer_deploy.engines.library import Library, Profile
from oneformer_deploy.extras import require_packages
from oneformer_deploy.quantization.scratch import safe_temporary_folder
from oneformer_deploy.runtimes import gpu_memory
from oneformer_deploy.runtimes.onnx_metadata import read_model, read_onnx_file
from oneformer_spec.commands.exit import note
from oneformer_spec.commands.run_folder import RunFolder, results_folder
from oneformer_spec.errors import OneFormerError, SpecError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import check_installed
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.manifest import Manifest

if TYPE_CHECKING:
    import onnx

FILE_NAME = "model.engine"
SECTION = "gen_trt_engine"


def run(spec: Spec) -> None:
    """Build the ONNX file `gen_trt_engine.onnx_file` into the engine file `gen_trt_engine.trt_engine`.

    An existing engine file is replaced only once the new engine is complete. With `encryption_key` the engine is
    encrypted; the ONNX file may be encrypted, too.

    Raises:
        SpecError: No ONNX file is given, a layer pattern matches nothing, or the GPU or calibration images are missing.
        UsageError: TensorRT or another required package is not installed.
        CheckpointError: The ONNX file cannot be read.
        OneFormerError: TensorRT cannot build the engine; nothing is written.
    """
    options = spec.gen_trt_engine
    if not options.onnx_file:
        raise SpecError(f"{SECTION}.onnx_file: is not set; set it to the ONNX file to build from")
    source = Path(options.onnx_file)
    target = Path(options.trt_engine) if options.trt_engine else results_folder(spec, SECTION) / FILE_NAME
    if target.suffix.lower() != ".engine":
        raise SpecError(f'{SECTION}.trt_engine: found "{target}", expected a file name ending in .engine')
    manifest = read_onnx_file(source, spec.encryption_key).manifest()
    require_packages(SECTION)
    if spec.encryption_key:
        check_installed()
    library = tensorrt_library.load(verbose=options.verbose)
    gpu = _select_gpu(options.gpu_id, library)
    with RunFolder.open(spec, SECTION) as folder:
        graph, manifest = _typed_graph(spec, source, manifest, folder)
        start = time.monotonic()
        folder.status("RUNNING", f"building with {library.name} {library.version}")
        engine = _build(spec, library, graph, source)
        facts = EngineFacts(library.name, library.version, options.tensorrt.data_type, _batches(spec), gpu)
        EngineFile(manifest, facts, engine).write(target, spec.encryption_key)
    summary = [
        f"{library.name} {library.version}, {facts.data_type}, batch {facts.batch[0]} to {facts.batch[2]}",
        f"{len(engine) / 1e6:.1f} MB, {time.monotonic() - start:.0f} s",
        *(["encrypted"] if spec.encryption_key else []),
    ]
    print(f"built: {target} ({', '.join(summary)})")


def _batches(spec: Spec) -> tuple[int, int, int]:
    sizes = spec.gen_trt_engine.tensorrt
    return sizes.min_batch_size, sizes.opt_batch_size, sizes.max_batch_size


def _select_gpu(index: int, library: Library) -> str | None:
    """Make a GPU current and return its name; None if the host has no GPU and the library builds without one."""
    count = gpu_memory.count_gpus()
    if index < count:
        gpu_memory.select_gpu(index)
        return gpu_memory.gpu_name(index)
    if index > 0 or library.times_kernels:
        hint = "" if index or count else "; tensorrt must build on the GPU it builds for, tensorrt-rtx builds anywhere"
        raise SpecError(f"{SECTION}.gpu_id: {index}: this host has {count} CUDA GPUs{hint}")
    note("no GPU found: the engine is built for all GPUs that TensorRT-RTX supports and has not been run")
    return None


def _typed_graph(spec: Spec, source: Path, manifest: Manifest, folder: RunFolder) -> tuple[bytes, Manifest]:
    """Return the serialised ONNX graph with every layer in its number format, and the manifest of that graph."""
    from oneformer_deploy.engines import precision
    from oneformer_deploy.quantization import int8_graph
    from oneformer_deploy.quantization.calibration import graph_manifest

    options = spec.gen_trt_engine.tensorrt
    model = read_model(source, spec.encryption_key)
    precision.name_nodes(model)
    precision.inline_constants(model.graph)
    if not int8_graph.is_symmetric(model):
        raise OneFormerError(
            f"{source}: its 8-bit layers have asymmetric ranges, which TensorRT does not support; "
            "quantize the model with quantize.device=trt"
        )
    formats = precision.layer_formats(model.graph, options.data_type, options.layers_precision or ())
    eight = {name: chosen for name, chosen in formats.items() if chosen in precision.EIGHT_BITS}
    if eight:
        model = _eight_bits(spec, model, source, manifest, eight, folder)
        # Layers without an 8-bit form, and everything between the 8-bit layers, compute in fp16.
        formats = {name: "fp16" if name in eight else chosen for name, chosen in formats.items()}
    typed = precision.write_formats(model, formats)
    return bytes(typed.SerializeToString()), graph_manifest(manifest, typed.graph.input)


def _eight_bits(
    spec: Spec,
    model: onnx.ModelProto,
    source: Path,
    manifest: Manifest,
    wanted: Mapping[str, str],
    folder: RunFolder,
) -> onnx.ModelProto:
    """Return the model with quantize/dequantize (Q/DQ) pairs around the `wanted` layers.

    A file that is quantized already is returned unchanged.
    """
    from oneformer_deploy.quantization import int8_graph
    from oneformer_deploy.quantization.calibration import open_calibration

    if int8_graph.is_quantized(model):
        note(f"{source}: is already quantized; its own 8-bit layers and ranges are used")
        return model
    if len(kinds := set(wanted.values())) > 1:
        raise SpecError(f"{SECTION}.tensorrt: an engine cannot mix {' and '.join(sorted(kinds))}; choose one of them")
    if not spec.dataset.quant_calibration_dataset.images_dir:
        raise SpecError(
            f"dataset.quant_calibration_dataset.images_dir: is not set; {kinds.pop()} needs images to measure each "
            "layer's range of values, or an ONNX file written by `quantize` with quantize.device=trt"
        )
    batch = spec.gen_trt_engine.batch_size
    calibration = open_calibration(
        spec.dataset.quant_calibration_dataset.images_dir,
        manifest,
        model.graph.input,
        batch_size=_batches(spec)[1] if batch == -1 else batch,
    )
    folder.status("RUNNING", f"calibrating with {len(calibration.paths)} images")
    with (
        safe_temporary_folder(source),
        int8_graph.Quantizer(model, calibration.feeds(), int8_graph.TENSORRT) as quantizer,
    ):
        layers = [name for name in quantizer.layers if wanted.get(quantizer.origin(name))]
        result = quantizer.quantized(layers)
    return int8_graph.to_fp8(result) if kinds.pop() == "fp8" else result


def _build(spec: Spec, library: Library, graph: bytes, source: Path) -> bytes:
    options = spec.gen_trt_engine
    cache = Path(options.timing_cache) if options.timing_cache else None
    if cache is not None and not library.times_kernels:
        note(f"{SECTION}.timing_cache has no effect: {library.name} times kernels when an engine is loaded")
        cache = None
    earlier_timings = _read_cache(cache) if cache is not None else None
    try:
        built = library.build(
            graph,
            Profile(*_batches(spec)),
            workspace=options.tensorrt.workspace_size,
            timing_cache=earlier_timings,
            source=source,
        )
    except OneFormerError as error:
        raise OneFormerError(
            f"{cache}: {error}" if earlier_timings is not None and "timing cache" in str(error) else str(error)
        ) from None
    if cache is not None and built.timing_cache is not None:
        write_atomically(cache, built.timing_cache)
    return built.engine


def _read_cache(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None  # the first build creates it
    except OSError as error:
        raise OneFormerError(f"{path}: cannot be read: {error.strerror}") from None
