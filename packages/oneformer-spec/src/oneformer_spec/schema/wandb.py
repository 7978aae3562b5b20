"""Section `wandb`: reporting a run to Weights & Biases."""

from __future__ import annotations

from dataclasses import dataclass

from oneformer_spec.schema.option import option


@dataclass(frozen=True)
class Wandb:
    """Reports go out when the wandb package is installed and a key is set."""

    enable: bool = option(
        True, help="Report the run when the wandb package is installed and a key or WANDB_MODE=offline is set."
    )
    project: str = option("oneformer", help="Project that the run belongs to.")
    entity: str | None = option("", help="User or team that owns the project; empty is the key's own.")
    group: str | None = option("", help="Group of runs that are shown together.")
    tags: tuple[str, ...] = option((), help="Tags of the run.")
    reinit: bool = option(False, help="Start a new run in a process that has one already.")
    sync_tensorboard: bool = option(False, help="Copy what is written to TensorBoard as well.")
    save_code: bool = option(False, help="Keep a copy of the source with the run.")
    name: str = option("", help="Name of the run; empty is derived from results_dir and the time.")
    run_id: str = option("", help="Identity of a run to continue.")
