"""The plugin contract: every hook takes no argument and returns declarations.

A `target` is "module:attribute" and is imported only when it is used, so a module that implements hooks stays light.
`options` is "module:Dataclass", a frozen dataclass whose fields are the options: typed, with defaults, checked with the
spec, and passed to the target as keywords. Register a module under the entry-point group "oneformer".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pluggy

GROUP = "oneformer"

ChooseLayers = Callable[[Mapping[str, str]], list[str]]
"""The kinds of all layers by name -> the names of those that `quantize.layers` and `quantize.skip_names` choose."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclass(frozen=True)
class Flag:
    """A switch of a command, `--name`, passed to its target as the keyword of that name."""

    name: str
    summary: str


@dataclass(frozen=True)
class Command:
    """A verb of `oneformer`: kind `task` is called as `run(spec)`, kind `app` is a Typer app.

    The options of a command are its own section of the spec, `<name>.*`.
    """

    name: str
    target: str
    summary: str
    kind: Literal["task", "app"] = "task"
    flags: tuple[Flag, ...] = ()
    options: str | None = None


@dataclass(frozen=True)
class Backbone:
    """A feature extractor: `build(**options) -> nn.Module` with `.channels` and `.strides`.

    `options` is "module:Dataclass", the frozen dataclass of its section `model.backbone.<name>.*`.
    """

    name: str
    target: str
    options: str


@dataclass(frozen=True)
class Dataset:
    """An annotation format: `target` is a subclass of `oneformer_data.Format`, made as `Kind(source, **options)`.

    `tasks` are those that its annotations can have targets for. Where `dataset.<split>.type` is not set, an annotation
    file is of the format that lists its name in `names` or its suffix in `suffixes`; of two such formats, the one with
    `panoptic` is meant where that folder of the split is set. `places` is what `annotations` may be: a file, a folder,
    a pattern of files such as `train-*.tar`, a URL.
    """

    name: str
    target: str
    tasks: tuple[str, ...]
    suffixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    panoptic: bool = False
    places: tuple[Literal["file", "folder", "pattern", "url"], ...] = ("file",)
    options: str | None = None


@dataclass(frozen=True)
class Task:
    """A segmentation task, which one model learns beside the others: its word in specs, results and on command lines.

    `prompt` is the sentence whose tokens condition the queries, `targets(sample)` returns the `Targets` of a sample.
    `decode` is how predictions become a result: "semantic", "instance" or "panoptic" as the task of that name, or
    "module:attribute", a function `decode(probabilities, mask_logits, frame, labels, thresholds) -> Segmentation`.
    `filler` is the text of the queries without a target, "a <name> photo" (or "an") by default. `needs` names built-in
    tasks: a data set that allows one of them has targets for this task.
    """

    name: str
    prompt: str
    targets: str
    decode: str = "semantic"
    filler: str | None = None
    needs: tuple[str, ...] = ("panoptic",)

    def __post_init__(self) -> None:
        """Refuse the word that stands for every task."""
        if self.name == "all":
            raise ValueError("a task cannot be named 'all', which stands for every task")


@dataclass(frozen=True)
class Evaluator:
    """A score of the task `task`: `make(labels, **options)` returns an object with `update`, `merge` and `compute`.

    `headline` names the numbers of what `compute` returns that are shown, logged and may be `checkpointer.monitor`:
    the name of the number -> the keys that lead to it, such as {"PQ": ("PQ", "all", "pq")}.
    """

    name: str
    target: str
    task: str
    headline: Mapping[str, tuple[str, ...]] | None = None
    options: str | None = None


@dataclass(frozen=True)
class Runtime:
    """A way to run model files.

    `open(path, device="auto", num_threads=None, key=None)` returns a Segmenter; `key` opens an encrypted file, see
    `oneformer_spec.files.encryption`. It runs files with one of `suffixes` unless the spec names another runtime, and
    files with one of `also` when the spec names it. A runtime of several `precisions` is given the keyword `precision`.
    """

    name: str
    target: str
    suffixes: tuple[str, ...]
    also: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32",)
    options: str | None = None


@dataclass(frozen=True)
class Quantizer:
    """A library that makes models smaller, chosen by `quantize.backend`: `quantize(spec, choose)` runs the command.

    `choose(kinds)` takes every layer that the library can quantize, by name, with its kind, and returns the names that
    the spec asks for.
    """

    name: str
    target: str
    options: str | None = None


@dataclass(frozen=True)
class Transform:
    """A step of training augmentation: `make(**options)` returns `f(sample, rng) -> sample`.

    Chosen by an entry of `dataset.augmentation.extra`, such as {type: copy_paste, p: 0.3}.
    """

    name: str
    target: str
    options: str | None = None


@dataclass(frozen=True)
class Loss:
    """A further loss: `make(**options)` returns `f(prediction, targets, matches) -> terms`, scalars by name.

    Chosen by an entry of `train.losses`, such as {type: boundary, weight: 2.0}.
    """

    name: str
    target: str
    options: str | None = None


@dataclass(frozen=True)
class Callback:
    """A Lightning callback: `make(spec, folder, **options)`; it runs behind ours and before checkpoints are written.

    Chosen by an entry of `train.callbacks`, such as {type: stop_early, patience: 3}.
    """

    name: str
    target: str
    options: str | None = None


@dataclass(frozen=True)
class Logger:
    """A Lightning logger: `make(spec, folder, **options)`; chosen by an entry of `train.loggers`."""

    name: str
    target: str
    options: str | None = None


class Hooks:
    """All hooks of the `oneformer` group."""

    @hookspec
    def oneformer_commands(self) -> Sequence[Command]:
        """Add verbs to the command line."""
        return ()

    @hookspec
    def oneformer_backbones(self) -> Sequence[Backbone]:
        """Add values of `model.backbone.type`."""
        return ()

    @hookspec
    def oneformer_datasets(self) -> Sequence[Dataset]:
        """Add values of `dataset.<split>.type`."""
        return ()

    @hookspec
    def oneformer_tasks(self) -> Sequence[Task]:
        """Add segmentation tasks: values of `evaluate.task` and `inference.mode`, keys of the tasks' probabilities."""
        return ()

    @hookspec
    def oneformer_evaluators(self) -> Sequence[Evaluator]:
        """Add scores of a task's predictions."""
        return ()

    @hookspec
    def oneformer_transforms(self) -> Sequence[Transform]:
        """Add values of `type` in `dataset.augmentation.extra`."""
        return ()

    @hookspec
    def oneformer_losses(self) -> Sequence[Loss]:
        """Add values of `type` in `train.losses`."""
        return ()

    @hookspec
    def oneformer_callbacks(self) -> Sequence[Callback]:
        """Add values of `type` in `train.callbacks`."""
        return ()

    @hookspec
    def oneformer_loggers(self) -> Sequence[Logger]:
        """Add values of `type` in `train.loggers`."""
        return ()

    @hookspec
    def oneformer_quantizers(self) -> Sequence[Quantizer]:
        """Add values of `quantize.backend`."""
        return ()

    @hookspec
    def oneformer_runtimes(self) -> Sequence[Runtime]:
        """Add runtimes, chosen by a model file's suffix."""
        return ()
