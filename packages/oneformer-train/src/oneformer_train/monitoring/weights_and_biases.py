"""Reporting to Weights & Biases as `wandb.*` says, where its package and a key, or the offline mode, are there."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.commands.exit import note
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.loading.load import to_dict
from oneformer_spec.schema import Spec

RUN_ID = "wandb_run_id"
"""File in the folder of a run that keeps its identity there."""


class WeightsAndBiases:
    """A run of Weights & Biases; with `sync_tensorboard` it copies TensorBoard's figures instead of ours."""

    def __init__(self, run: Any, *, copies_tensorboard: bool, is_ours: bool) -> None:
        """Report to a run that `wandb.init` returned; one that is not ours was open before, and stays so."""
        self.run = run
        self._copies = copies_tensorboard
        self._is_ours = is_ours

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Report figures; those of a step that the run knows already are passed over there."""
        if not self._copies:
            self.run.log(dict(values), step=step)

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Report pictures."""
        import wandb

        if not self._copies:
            self.run.log({name: wandb.Image(picture) for name, picture in pictures.items()}, step=step)

    def close(self, *, failed: bool) -> None:
        """End the run there."""
        if self._is_ours:
            self.run.finish(exit_code=int(failed))


def open_report(spec: Spec, folder: Path, *, continues: bool) -> WeightsAndBiases | None:
    """Begin a run, or go on with the one of `wandb.run_id` or, where training continues, with the folder's own.

    None with a note where it is switched off by what is missing, or where Weights & Biases refuses.
    """
    if not spec.wandb.enable:
        return None
    missing = _missing()
    if missing is not None:
        note(f"wandb.enable: {missing}; this run is not reported to Weights & Biases")
        return None
    import wandb

    kept, before = folder / RUN_ID, wandb.run
    identity = spec.wandb.run_id or (kept.read_text().strip() if continues and kept.is_file() else "")
    try:
        run = wandb.init(**_arguments(spec, folder, identity))
    except (wandb.Error, ValueError) as error:  # a wrong setting is a ValueError
        note(f"wandb: {' '.join(str(error).split())}; this run is not reported to Weights & Biases")
        return None
    write_atomically(kept, run.id)
    return WeightsAndBiases(run, copies_tensorboard=spec.wandb.sync_tensorboard, is_ours=run is not before)


def _missing() -> str | None:
    """Return what keeps runs from being reported, in words."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode == "disabled":
        return "WANDB_MODE is disabled"
    if find_spec("wandb") is None:
        return "the package wandb is not installed (pip install 'oneformer-train[wandb]')"
    if mode in ("offline", "dryrun") or _has_key():
        return None
    return "there is no key (wandb login, or WANDB_API_KEY) and WANDB_MODE is not offline"


def _has_key() -> bool:
    """Tell whether a key is set, without a look at the network or a question at the terminal."""
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
