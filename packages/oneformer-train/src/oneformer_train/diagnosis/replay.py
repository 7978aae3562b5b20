"""`python -m oneformer_train.diagnosis.replay FILE`: repeat the step that was not finite and show where that began."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oneformer_model import OneFormer
from oneformer_model.weights import checkpoint as files
from oneformer_spec.commands.exit import run_reporting
from oneformer_spec.errors import CheckpointError, UsageError
from oneformer_spec.loading.yaml_text import read_yaml
from oneformer_spec.schema import Spec
from oneformer_spec.schema.tree import build as build_section
from oneformer_spec.schema.tree import spec_tree
from oneformer_train.batches.batch import Batch
from oneformer_train.batches.randomness import prepare_step
from oneformer_train.diagnosis.reproduction import REPRODUCTION, batch_of
from oneformer_train.loss.from_spec import criterion
from oneformer_train.loss.matcher import Target
from oneformer_train.loss.points import DrawPoints
from oneformer_train.optimisation.freezing import freeze


def main(arguments: list[str]) -> int:
    """Replay the file that the only argument names; return the exit code."""
    return run_reporting(lambda: _replay(arguments))


def _replay(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise UsageError("usage: python -m oneformer_train.diagnosis.replay FILE")
    for line in replay(Path(arguments[0])):
        print(line)


def replay(path: Path) -> Iterator[str]:
    """Yield what happens in the step that a reproduction file holds, line by line.

    It is taken on the CPU in the file's precision (fp16 as bf16, as in training there).

    Raises:
        CheckpointError: The file cannot be read, or is no reproduction.
    """
    content = files.read(path)
    training = content.get("training", {})
    if REPRODUCTION not in training:
        raise CheckpointError(f"{path}: holds no step to replay; nonfinite_step_….pth of a failed run does")
    held = training[REPRODUCTION]
    spec: Spec = build_section(spec_tree(), read_yaml(held["spec"], "").data)
    batch = batch_of(held["batch"])
    yield f"step {held['step']}: {held['what']} was not finite; images {', '.join(batch.names)}"
    model = files.restore(content, path, training=True)
    freeze(model, spec.train.freeze or ())
    yield from _broken_weights(model)
    cpu, first = torch.device("cpu"), training["samples_done"]
    draw = prepare_step(spec.train.seed, first, held["rank"], len(batch.names), cpu)
    with _first_broken_output(model.train()) as found:
        terms = _terms(model, spec, batch, draw)
    yield found[0] if found else "all outputs of the network are finite"
    yield "losses: " + ", ".join(f"{name} {value.item():.6g}" for name, value in terms.items())
    if torch.isfinite(terms["loss"]):
        terms["loss"].backward()
        yield from _broken_gradients(model)


def _terms(model: OneFormer, spec: Spec, batch: Batch, draw: DrawPoints) -> dict[str, Tensor]:
    precision = spec.train.precision
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != "fp32"):
        prediction = model(batch.image, batch.task_tokens, batch.texts)
        targets = [Target(labels, masks) for labels, masks in zip(batch.labels, batch.masks, strict=True)]
        assert model.text_branch is not None
        terms: dict[str, Tensor] = criterion(spec)(prediction, targets, model.text_branch.logit_scale, draw)
    return terms


def _broken_weights(model: nn.Module) -> Iterator[str]:
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            yield f"the weights hold it already: {name}: {_share(value)}"
            return


def _broken_gradients(model: nn.Module) -> Iterator[str]:
    broken = [
        f"gradient of {name}: {_share(parameter.grad)}"
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
    ]
    yield from broken or ["all gradients are finite"]


@contextmanager
def _first_broken_output(model: nn.Module) -> Iterator[list[str]]:
    """Give a list that receives a line about the first module with an output that is not finite."""
    found: list[str] = []

    def listener(name: str) -> Callable[..., None]:
        def listen(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(f"first output that is not finite: {name} ({type(module).__name__}): {_share(output)}")

        return listen

    handles = [module.register_forward_hook(listener(name)) for name, module in model.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _share(value: Tensor) -> str:
    return f"{int((~torch.isfinite(value)).sum()):,} of {value.numel():,} numbers"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
