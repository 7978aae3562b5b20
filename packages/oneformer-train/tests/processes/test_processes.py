"""Two processes do what one does on the same samples, whatever they share; one pair runs all that is compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from oneformer_model.weights import checkpoint
from oneformer_train.checkpoints.resume import LATEST

sys.path.insert(0, str(Path(__file__).parent))
from process import train

STRATEGIES = ("ddp", "ddp_sharded", "fsdp")
# Dropout and drop path draw for a process's own batch, so runs of different processes agree without them only.
EXACT = ("model.one_former.dropout=0", "model.backbone.swin.drop_path_rate=0")
FIXED = ("wandb.enable=false", "train.optim.max_iter=6", "train.iters_per_epoch=3", "train.validation_interval=9")
STILL = ("train.optim.lr=1e-30", "train.optim.weight_decay=0", "train.num_epochs=1", "train.iters_per_epoch=1")
Rows = list[dict[str, float]]


class Runs:
    """The folders and losses of all runs by name."""

    def __init__(self, root: Path, spec_file: Path) -> None:
        self.root, self.spec_file = root, spec_file
        self.jobs: list[tuple[str, list[str]]] = []

    def words(self, name: str, *overrides: str) -> list[str]:
        return [str(self.spec_file), *FIXED, f"train.results_dir={self.root / name}", *overrides]

    def alone(self, name: str, *overrides: str) -> None:
        rows = train(self.words(name, *overrides))
        (self.root / f"{name}.losses.0").write_text(json.dumps(rows))

    def pair(self, name: str, *overrides: str) -> None:
        self.jobs.append((name, self.words(name, "train.num_gpus=2", *overrides)))

    def start(self) -> None:
        """Let two processes do all jobs."""
        stores = [dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in self.jobs]
        rows = [
            {"words": words, "losses": str(self.root / f"{name}.losses"), "port": store.port}
            for (name, words), store in zip(self.jobs, stores, strict=True)
        ]
        (self.root / "jobs.json").write_text(json.dumps(rows))
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        command = [sys.executable, str(Path(__file__).parent / "process.py"), str(self.root / "jobs.json")]
        processes = [
            subprocess.Popen(command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(2)
        ]
        try:
            assert [process.wait(timeout=400) for process in processes] == [0, 0]
        finally:
            for process in processes:
                process.kill()
                process.wait()

    def losses(self, name: str, rank: int = 0) -> Rows:
        rows: Rows = json.loads((self.root / f"{name}.losses.{rank}").read_text())
        return rows

    def latest(self, name: str) -> dict[str, Tensor]:
        state: dict[str, Tensor] = checkpoint.read(self.root / name / LATEST)["state_dict"]
        return state

    def scores(self, name: str) -> dict[str, float]:
        lines = (self.root / name / "status.json").read_text().splitlines()
        kpi = json.loads(lines[1])["kpi"]
        return {score: kpi[score] for score in ("mIoU", "AP", "PQ")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, make_spec) -> Runs:
    """Return all runs, done."""
    root = tmp_path_factory.mktemp("runs")
    spec_file = make_spec(root)
    runs = Runs(root, spec_file)
    by_step = ("train.checkpoint_interval_unit=step", "train.checkpoint_interval=1")
    four = "dataset.train.batch_size=4"
    runs.alone("one", four, *EXACT, *by_step)
    runs.alone("one_still", *STILL, "train.validation_interval=1")
    middle = f"train.resume_training_checkpoint_path={root}/one/model_epoch_000_step_2.pth"
    for strategy in STRATEGIES:
        chosen = f"train.distributed_strategy={strategy}"
        runs.pair(strategy, chosen, *EXACT, *by_step)
        runs.pair(f"{strategy}_still", chosen, *STILL, "train.validation_interval=1")
        runs.pair(f"{strategy}_resumed", chosen, middle, *EXACT)
    after = f"train.resume_training_checkpoint_path={root}/straight/model_epoch_000_step_2.pth"
    runs.pair("straight", *by_step)
    runs.pair("continued", after)
    runs.start()
    for strategy in ("ddp", "fsdp"):
        middle = f"train.resume_training_checkpoint_path={root}/{strategy}/model_epoch_000_step_2.pth"
        runs.alone(f"after_{strategy}", four, middle, *EXACT)
    return runs


def assert_same_losses(first: Rows, second: Rows) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_have_the_losses_of_one_with_all_their_samples(runs: Runs, strategy: str) -> None:
    assert len(runs.losses(strategy)) == 6
    assert runs.losses(strategy)[0] == pytest.approx(runs.losses("one")[0], rel=1e-5)
    assert_same_losses(runs.losses(strategy), runs.losses("one"))
    assert runs.losses(strategy, rank=1) == runs.losses(strategy, rank=0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_checkpoints_are_those_of_one_process(runs: Runs, strategy: str) -> None:
    ours, theirs = (checkpoint.read(runs.root / name / LATEST) for name in (strategy, "one"))
    assert {name: value.shape for name, value in ours["state_dict"].items()} == {
        name: value.shape for name, value in theirs["state_dict"].items()
    }
    assert {type(value) for value in ours["state_dict"].values()} == {Tensor}
    own, wanted = (content["training"]["optimizer_states"][0]["state"] for content in (ours, theirs))
    assert own.keys() == wanted.keys()
    for place, entry in wanted.items():
        assert {name: value.shape for name, value in own[place].items()} == {
            name: value.shape for name, value in entry.items()
        }
    model = checkpoint.restore(ours, strategy)
    assert torch.isfinite(model(torch.zeros(1, 3, 64, 64), torch.zeros(1, 77)).class_logits).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_continue_what_one_began(runs: Runs, strategy: str) -> None:
    assert_same_losses(runs.losses(f"{strategy}_resumed"), runs.losses("one")[2:])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_process_continues_what_two_began(runs: Runs, strategy: str) -> None:
    assert_same_losses(runs.losses(f"after_{strategy}"), runs.losses("one")[2:])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_of_shares_are_those_of_all_pictures(runs: Runs, strategy: str) -> None:
    """Weights stand still; of the three batches of pictures one process has two, the other one and an empty one."""
    assert runs.scores(f"{strategy}_still") == runs.scores("one_still")


def test_a_pair_continues_bit_for_bit_also_with_dropout(runs: Runs) -> None:
    straight, continued = runs.latest("straight"), runs.latest("continued")
    assert [name for name in straight if not torch.equal(straight[name], continued[name])] == []


def test_the_first_process_alone_writes(runs: Runs) -> None:
    lines = [json.loads(line) for line in (runs.root / "fsdp" / "status.json").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["STARTED", "RUNNING", "RUNNING", "SUCCESS"]
