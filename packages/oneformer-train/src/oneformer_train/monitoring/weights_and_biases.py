"""Reports to Weights & Biases as `wandb.*` says, where its package and a key are present, or it is offline."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from lightning_fabric.loggers.logger import rank_zero_experiment
from numpy.typing import NDArray
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from oneformer_spec.commands.exit import note
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.loading.load import to_dict
from oneformer_spec.schema import Spec

RUN_ID = "wandb_run_id"
"""File in the folder of a run that holds its identity at Weights & Biases."""


def wandb_logger(spec: Spec, folder: Path) -> WeightsAndBiases | None:
    """Return the logger of Weights & Biases; None, with a note, where the package or a key is missing."""
    if not spec.wandb.enable:
        return None
    missing = _missing()
    if missing is None:
        return WeightsAndBiases(spec, folder)
    note(f"wandb.enable: {missing}; this run is not reported to Weights & Biases")
    return None


class WeightsAndBiases(Logger):
    """Reports to a run of Weights & Biases; with `wandb.sync_tensorboard` that copies TensorBoard's metrics instead."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        """Report the run of `spec` in `folder` once `resume` has been called."""
        super().__init__()
        self._spec, self._folder = spec, folder
        self.run: Any = None
        self._is_ours = False

    @property
    def name(self) -> str:
        """The section of the spec that governs it."""
        return "wandb"

    @property
    def version(self) -> str:
        """The identity of the run there, empty before it begins."""
        return str(self.run.id) if self.run is not None else ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run that `wandb.init` returned; None where Weights & Biases refused it."""
        return self.run

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Begin a run, or continue that of `wandb.run_id` or, after the first step, the folder's own.

        A run that was open before takes the metrics and stays open. What Weights & Biases refuses is a note.
        """
        import wandb

        record, before = self._folder / RUN_ID, wandb.run
        identity = self._spec.wandb.run_id or (record.read_text().strip() if step > 0 and record.is_file() else "")
        try:
            self.run = wandb.init(**_arguments(self._spec, self._folder, identity))
        except (wandb.Error, ValueError) as error:  # a wrong setting is a ValueError
            note(f"wandb: {' '.join(str(error).split())}; this run is not reported to Weights & Biases")
            return
        self._is_ours = self.run is not before
        write_atomically(record, self.run.id)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Report metrics; Weights & Biases ignores those of a step before its newest."""
        if self._reports:
            self.run.log(dict(metrics), step=step)

    @rank_zero_only
    def log_image(self, key: str, images: Sequence[NDArray[np.uint8]], step: int | None = None) -> None:
        """Report pictures, RGB (H, W, 3), under one name."""
        import wandb

        if self._reports:
            pictures = [wandb.Image(picture) for picture in images]
            self.run.log({key: pictures[0] if len(pictures) == 1 else pictures}, step=step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run began with the settings of the spec."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run there, as a failed one unless `status` is "success"."""
        if self._is_ours:
            self.run.finish(exit_code=int(status != "success"))
            self._is_ours = False

    @property
    def _reports(self) -> bool:
        return self.run is not None and not self._spec.wandb.sync_tensorboard


def _missing() -> str | None:
    """Return why runs cannot be reported, in words; None where they can."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode == "disabled":
        return "WANDB_MODE is disabled"
    if find_spec("wandb") is None:
        return "the package wandb is not installed (pip install 'oneformer-train[wandb]')"
    if mode in ("offline", "dryrun") or _has_key():
        return None
    return "no key is set (wandb login, or WANDB_API_KEY) and WANDB_MODE is not offline"


def _has_key() -> bool:
    """Return whether a key is set, without network access or a prompt."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        entries = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    import wandb

    return entries.authenticators(urlsplit(wandb.Settings().base_url).hostname or "") is not None


def _arguments(spec: Spec, folder: Path, identity: str) -> dict[str, Any]:
    """Return the arguments of `wandb.init`; a run that continues keeps its name unless the spec gives one."""
    import wandb

    options = spec.wandb
    place = Path(spec.train.results_dir or spec.results_dir or ".").resolve().name
    name = options.name or (None if identity else f"{place} {datetime.now():%Y-%m-%d %H:%M}")
    offline = os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    return {
        "project": options.project,
        "entity": options.entity or None,
        "group": options.group or None,
        "tags": list(options.tags),
        "name": name,
        "id": identity or None,
        "resume": "allow" if identity and not offline else None,
        "reinit": "finish_previous" if options.reinit else "return_previous",
        "sync_tensorboard": options.sync_tensorboard,
        "save_code": options.save_code,
        "dir": str(folder),
        "config": {name: value for name, value in to_dict(spec).items() if name != "encryption_key"},
        "settings": wandb.Settings(
            console="wrap",  # the alternative swaps the terminal for one of its own
            code_dir=str(Path(__file__).parent) if options.save_code else None,
        ),
    }
