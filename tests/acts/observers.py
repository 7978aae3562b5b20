"""What can be seen of a spec: each observer does one real thing with it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
import wandb
from PIL import Image
from torch import nn

from acts.row import Case, Observer, digest
from oneformer_data.opening.loading import open_split, read_labels
from oneformer_data.opening.record_cache import CACHE_VARIABLE
from oneformer_data.training.pipeline import from_spec as open_pipeline
from oneformer_model import OneFormer, Texts, task_tokens
from oneformer_model.build import build
from oneformer_model.onnx_export import graph as onnx_graph
from oneformer_model.weights import checkpoint
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.files.encryption import is_encrypted
from oneformer_spec.processes import shares
from oneformer_spec.processes.world import World
from oneformer_train.batches.loaders import course_of, training_loader, validation_loader
from oneformer_train.monitoring.weights_and_biases import wandb_logger
from oneformer_train.processes.joining import trainer_settings

TEXTS = 4


def network(case: Case) -> dict[str, str]:
    """Build the network and run it forth and back, in training and for use."""
    spec = case.spec
    torch.manual_seed(0)
    model = build(spec.model, training=True)
    weights = {name: list(value.shape) for name, value in model.state_dict().items()}
    image, tokens = torch.randn(2, 3, 64, 96), task_tokens("panoptic", 2)
    assert model.text_branch is not None
    words = torch.randint(1, 1000, (TEXTS, spec.model.text_encoder.context_length))
    number = spec.model.one_former.num_object_queries - spec.model.text_encoder.n_ctx
    texts = Texts(words, torch.arange(2 * number).reshape(2, number) % TEXTS)
    trained = model.train()(image, tokens, texts)
    trained.text_queries.sum().backward()
    with torch.inference_mode():
        used = model.eval()(image, tokens)
    return {
        "weights": digest(weights),
        "start": digest([value for value in model.state_dict().values() if value.dtype == torch.float32]),
        "trained": digest([*trained.class_logits, *trained.mask_embeddings, trained.mask_features]),
        "texts": digest(trained.text_queries),
        "temperature": digest(model.text_branch.logit_scale),
        "used": digest([used.class_logits, used.mask_logits]),
        "frozen": digest([name for name, parameter in model.named_parameters() if not parameter.requires_grad]),
    }


def kept_for_backward(case: Case) -> int:
    """Train and count the numbers that backward passes were kept for."""
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _run(case, "train")
    return sum(kept)


def opened(split: str) -> Observer:
    """Return an observer that opens and reads a split, or says why that cannot be."""

    def observe(case: Case) -> str:
        try:
            samples = open_split(case.spec.dataset, split, read_labels(case.spec))
            return digest([samples[index].image for index in range(len(samples))])
        except (DataError, SpecError) as error:
            return str(error).replace(str(case.folder), "")

    return observe


def caches(case: Case) -> int:
    """Open the training data and count the files that keep its annotations."""
    with patch.dict(os.environ, {CACHE_VARIABLE: f"{case.folder / 'cache'}"}):
        open_split(case.spec.dataset, "train", read_labels(case.spec))
    return sum(name.endswith(".records") for name in case.files())


def batches(case: Case) -> list[str]:
    """Draw the first batches of training."""
    pipeline = open_pipeline(case.spec)
    loader = training_loader(pipeline, case.spec, course_of(case.spec, len(pipeline)))
    return [digest(tuple(batch)) for batch in islice(loader, 3)]


def loaders(case: Case) -> list[object]:
    """Build the loaders as on a machine with a GPU and read their settings off them."""
    spec = case.spec
    with patch("torch.cuda.is_available", return_value=True):
        pipeline = open_pipeline(spec)
        training = training_loader(pipeline, spec, course_of(spec, len(pipeline)))
        validation = validation_loader(open_split(spec.dataset, "val", read_labels(spec)), spec.dataset)
    return [training.num_workers, training.pin_memory, validation.num_workers]


def training(case: Case) -> dict[str, object]:
    """Train: weights, losses, scores, learning rates, images that the network saw, files.

    The spec that the run records in its files is left out: recording is no effect.
    """
    images, _ = _run(case, "train")
    content = checkpoint.read(case.find("oneformer_model_latest.pth"))
    state = content["training"]
    lines = [json.loads(line) for line in case.find("status.json").read_text().splitlines()]
    return {
        "weights": digest(content["state_dict"]),
        "optimizer": digest(state["optimizer_states"]),
        "rates": [group["lr"] for group in state["optimizer_states"][0]["param_groups"]],
        "auto_reduce": state.get("auto_reduce"),
        "status": [[line["status"], line.get("epoch"), digest(line.get("kpi"))] for line in lines],
        "images": images,
        "files": _stable(case.files()),
        "model_name": content["manifest"]["model_name"],
        "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
    }


def sharing(case: Case) -> str:
    """Ask what the processes of a run would share."""
    chosen = trainer_settings(case.spec.train, World(size=2, local_size=2))["strategy"]
    return f"{type(chosen).__name__} {getattr(chosen, 'keep_weights', None)}"


def left_behind(case: Case) -> list[str]:
    """Train and look at the files."""
    _run(case, "train")
    return _stable(case.files())


def reported(case: Case) -> dict[str, object] | None:
    """Report a run in offline mode and read its settings off it."""
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    with patch.dict(os.environ, quiet), _silence():
        report = wandb_logger(case.spec, case.folder)
        if report is None:
            return None
        report.resume(0)
        run = report.run
        report.finalize("success")
    named = {name: getattr(run, name) for name in ("project", "entity", "group", "tags", "name")}
    return named | {
        "is the chosen one": run.id == case.spec.wandb.run_id,
        "code": run.settings.code_dir is not None and run.settings.save_code,
        "tensorboard": run.settings.sync_tensorboard,
    }


def reported_beside_another(case: Case) -> dict[str, object] | None:
    """Report while the process has another run."""
    with patch.dict(os.environ, {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}), _silence():
        another = wandb.init(dir=str(case.folder), project="another")
        try:
            return reported(case)
        finally:
            another.finish()


def talk(case: Case) -> list[str]:
    """Train and read how each line begins that is said on the way."""
    heard = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(heard):
        case.start("train")
    return [line.split()[0] for line in heard.getvalue().splitlines()]


def encrypted_files(case: Case) -> list[str]:
    """Train and tell which of the files are encrypted."""
    with _silence():
        case.start("train")
    return [name for name in case.files() if is_encrypted(case.folder / name)]


def evaluation(case: Case) -> dict[str, object]:
    """Evaluate: scores, images that the network saw, files, CPU threads, and which threads opened pictures."""
    openers: set[str] = set()
    opened = Image.open

    def listen(*arguments: Any, **options: Any) -> Image.Image:
        openers.add(threading.current_thread().name.partition("_")[0])
        return opened(*arguments, **options)

    with patch("PIL.Image.open", listen):
        images, threads = _run(case, "evaluate")
    metrics = json.loads(case.find("metrics.json").read_text())
    del metrics["data"]["checkpoint"]
    return {"metrics": metrics, "images": images, "files": case.files(), "threads": threads, "openers": sorted(openers)}


def inference(case: Case) -> dict[str, object]:
    """Segment pictures: what was found, images that the network saw, files, CPU threads."""
    images, threads = _run(case, "inference")
    labels = [np.asarray(Image.open(path)) for path in sorted(case.folder.rglob("labels/*.png"))]
    return {"labels": digest(labels), "images": images, "files": case.files(), "threads": threads}


def processes_of(task: str) -> Observer:
    """Return an observer that runs a command and counts the processes that it starts."""

    def observe(case: Case) -> int:
        started: list[object] = []
        start = shares._start

        def listen(world: World) -> shares.Worker:
            started.append(world)
            return start(world)

        with patch.object(shares, "_start", listen):
            _run(case, task)
        return len(started)

    return observe


def export(case: Case) -> dict[str, object]:
    """Export: operator set, axes of the inputs, weights, files."""
    with _silence():
        case.start("export")
    (path,) = case.folder.rglob("*.onnx")
    graph = onnx.load(path)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in graph.graph.input
    }
    return {
        "opset": [entry.version for entry in graph.opset_import],
        "axes": axes,
        "weights": digest([part.raw_data for part in graph.graph.initializer]),
        "files": case.files(),
    }


def exporter_talk(case: Case) -> bool:
    """Export and return whether the exporter itself wrote anything to the terminal."""
    printed = io.StringIO()
    with tempfile.TemporaryFile() as heard, _silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own, which verbose lets through
        terminal = os.dup(1)
        os.dup2(heard.fileno(), 1)  # TorchScript's exporter does not write through Python, the other one does
        try:
            with contextlib.redirect_stdout(printed):
                case.start("export")
        finally:
            os.dup2(terminal, 1)
            os.close(terminal)
        return heard.tell() > 0 or "[torch.onnx]" in printed.getvalue()


def export_device(case: Case) -> str:
    """Tell where the network of an export is traced, on a machine with eight GPUs."""
    devices: list[str] = []

    class StoppedError(Exception):
        pass

    def write(*arguments: Any, device: torch.device, **options: Any) -> None:
        devices.append(str(device))
        raise StoppedError

    with (
        _silence(),
        patch("torch.cuda.device_count", return_value=8),
        patch.object(onnx_graph, "write_graph", write),
        contextlib.suppress(StoppedError),
    ):
        case.start("export")
    (device,) = devices
    return device


def load(case: Case) -> str:
    """Load the spec and nothing more."""
    return case.spec.model.sem_seg_head.name


def _run(case: Case, task: str) -> tuple[list[tuple[list[int], str]], int]:
    """Run a command: shape and content of every batch of images that went into the network, and torch's CPU threads."""
    images: list[tuple[list[int], str]] = []

    def listen(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, OneFormer):
            images.append((list(inputs[0].shape), digest(inputs[0])))

    hook, before = nn.modules.module.register_module_forward_pre_hook(listen), torch.get_num_threads()
    try:
        with _silence():
            case.start(task)
        return images, torch.get_num_threads()
    finally:
        hook.remove()
        torch.set_num_threads(before)


def _stable(files: list[str]) -> list[str]:
    """Return names without the time that is part of the names of TensorBoard's files."""
    return sorted(name.partition("tfevents")[0] for name in files)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what a command tells people off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
