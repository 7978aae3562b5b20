"""Options of a run: each does what it says, in a run from the command's entry to the files that it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from oneformer_model.weights import checkpoint
from oneformer_spec.errors import CheckpointError, SpecError
from oneformer_spec.loading.load import load_spec
from oneformer_train import trainer as trainer_module
from oneformer_train.checkpoints.resume import LATEST
from oneformer_train.command import run
from oneformer_train.diagnosis.out_of_memory import MemoryExhaustedError
from oneformer_train.diagnosis.replay import main as replay
from oneformer_train.loss.nonfinite import NonFiniteError
from oneformer_train.module import TrainingModule
from oneformer_train.trainer import lightning_precision

ONE = "train.num_epochs=1"
RARELY = "train.validation_interval=10"
STILL = ("train.optim.lr=1e-30", "train.optim.weight_decay=0")


def train(spec_file: Path, *overrides: str) -> Path:
    run(load_spec([spec_file], overrides, task="train").spec)
    return spec_file.parent / "results" / "train"


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = checkpoint.read(path)["state_dict"]
    return state


def changed(first: Path, second: Path) -> set[str]:
    one, other = weights(first), weights(second)
    return {name for name in one if not torch.equal(one[name], other[name])}


def state(path: Path) -> dict[str, Any]:
    training: dict[str, Any] = checkpoint.read(path)["training"]
    return training


def rates(path: Path) -> list[float]:
    return [group["lr"] for group in state(path)["optimizer_states"][0]["param_groups"]]


def kpis(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    return [line["kpi"] for line in lines if line["status"] == "RUNNING"]


def test_what_is_frozen_keeps_every_bit_and_the_rest_learns(
    spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(spec_file, ONE, RARELY) / LATEST
    frozen = ("train.freeze=[backbone,transformer.encoder]", "train.verbose=true", "model.one_former.dropout=0.1")
    begun = (f"train.pretrained_model_path={first}", f"train.results_dir={tmp_path / 'second'}")
    capsys.readouterr()
    train(spec_file, ONE, *frozen, *begun)
    second = tmp_path / "second" / LATEST
    names = weights(first).keys()
    kept = {name for name in names if name.startswith(("backbone.", "pixel_decoder.layers."))}
    assert names - changed(first, second) - kept == set()
    assert changed(first, second) & kept == set()
    assert "text_branch.logit_scale" in changed(first, second)  # the contrastive temperature is trained
    trained = state(second)["trained"]["parameters"]
    assert not {*trained} & kept
    said = capsys.readouterr().err
    assert "note: train.freeze: backbone, pixel_decoder.layers: " in said
    lines = said.splitlines()
    (backbone,) = [line for line in lines if line.startswith("backbone: ")]
    assert backbone.endswith("parameters, 0 are trained")
    assert [line.split(":")[0] for line in lines if line.startswith("AdamW")] == ["AdamW, head_no_decay", "AdamW, head"]
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1", "2", "3"]
    assert all(word in steps[0] for word in ("loss ", "dice ", "gradient norm ", "head lr ", "s of it for data"))
    with pytest.raises(CheckpointError, match=r"second/oneformer_model_latest\.pth: its run trained other parameters"):
        train(spec_file, "train.num_epochs=2", *begun)


def test_an_unknown_part_to_freeze_stops_before_anything_is_written(spec_file: Path) -> None:
    with pytest.raises(SpecError, match=r"^train\.freeze: backbone\.stage\.0: .* it has backbone, pixel_decoder"):
        train(spec_file, "train.freeze=[backbone.stage.0]")
    assert not (spec_file.parent / "results").exists()


def test_auto_reduce_reduces_after_its_patience_and_val_loss_is_the_same_for_the_same_weights(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reduce = ("train.optim.lr_scheduler=AutoReduce", "train.optim.lr_patience=1", "train.optim.gamma=0.5")
    folder = train(
        spec_file, *STILL, *reduce, "train.num_epochs=4", "train.iters_per_epoch=1", "train.optim.warmup_iters=0"
    )
    assert [max(rates(folder / f"model_epoch_00{epoch}.pth")) for epoch in range(4)] == [1e-30, 1e-30, 5e-31, 5e-31]
    losses = [kpi["val_loss"] for kpi in kpis(folder)]
    assert len(losses) == 4
    assert len({*losses}) == 1
    assert losses[0] > 0
    assert len({kpi["loss"] for kpi in kpis(folder)}) == 4
    assert "note: val_loss no longer falls; the learning rates are times 0.5 now" in capsys.readouterr().err


@pytest.mark.parametrize("monitor", ["val_loss", "train_loss"])
def test_auto_reduce_continues_as_if_it_had_never_stopped(spec_file: Path, tmp_path: Path, monitor: str) -> None:
    """The checkpoint lies between a step and the validation after it, which the continued run owes."""
    words = (
        *("train.optim.lr_scheduler=AutoReduce", "train.optim.lr_patience=1", f"train.optim.monitor_name={monitor}"),
        *("train.checkpoint_interval_unit=step", "train.checkpoint_interval=2", "train.val_check_interval=2"),
        *("train.num_epochs=3", "train.optim.gamma=0.9"),
    )
    straight = tmp_path / "straight"
    train(spec_file, *words, f"train.results_dir={straight}")
    middle = straight / "model_epoch_001_step_4.pth"
    resumed = train(spec_file, *words, f"train.resume_training_checkpoint_path={middle}")
    assert state(resumed / LATEST)["auto_reduce"] == state(straight / LATEST)["auto_reduce"]
    assert changed(resumed / LATEST, straight / LATEST) == set()


def test_a_loss_that_is_no_number_stops_the_run_and_can_be_seen_again(
    spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (RARELY, "train.optim.lr=1e38", "train.optim.lr_scheduler=constant", "train.optim.warmup_iters=0")
    with pytest.raises(NonFiniteError) as caught:
        train(spec_file, *words)
    folder, error = spec_file.parent / "results" / "train", caught.value
    file = folder / "nonfinite_step_1.pth"
    assert error.exit_code == 1
    assert "\n" not in str(error)
    assert str(error).startswith("step 1: the loss is not finite (loss nan, class ")
    assert str(error).endswith(f".png; python -m oneformer_train.diagnosis.replay {file} shows where it begins")
    assert json.loads((folder / "status.json").read_text().splitlines()[-1])["status"] == "FAILURE"
    held = torch.load(file, weights_only=True)["training"]["reproduction"]
    assert held["batch"]["names"] == error.names
    assert held["batch"]["image"].shape == (2, 3, 64, 64)
    with pytest.raises(NonFiniteError) as again:
        train(spec_file, *words, f"train.resume_training_checkpoint_path={file}", f"train.results_dir={tmp_path / 'x'}")
    assert str(again.value).split(";")[:2] == str(error).split(";")[:2]
    capsys.readouterr()
    assert replay([str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"step 1: the loss was not finite; images {', '.join(error.names)}"
    assert lines[1].startswith("the weights hold it already: backbone.")
    assert lines[2].startswith("first output that is not finite: backbone.")
    assert lines[3].startswith("losses: loss nan, ")


def test_a_gradient_that_is_no_number_stops_the_run_before_the_step(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    norms = iter([torch.tensor(1.0), torch.tensor(float("inf"))])
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_, **__: next(norms))
    with pytest.raises(NonFiniteError, match=r"^step 1: the gradient norm is not finite \(loss \d") as caught:
        train(spec_file, RARELY)
    assert caught.value.file is not None
    assert state(caught.value.file)["batches_done"] == 1
    capsys.readouterr()
    assert replay([str(caught.value.file)]) == 0
    terms = ", ".join(f"{name} {value:.6g}" for name, value in caught.value.terms.items())
    assert capsys.readouterr().out.splitlines()[1:] == [
        "all outputs of the network are finite",
        f"losses: {terms}",  # the same to six digits: random numbers too were those of the step
        "all gradients are finite",
    ]


def test_only_a_reproduction_can_be_replayed(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay([f"{spec_file}"]) == 1
    assert replay([]) == 2
    assert "usage: python -m oneformer_train.diagnosis.replay FILE" in capsys.readouterr().err


def scale_losses(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Let fp16 be what it is on a GPU, with the scaler and the autocast that torch has for CPUs."""
    trainer = pl.Trainer

    def scaling(*, precision: str, plugins: list[Any], **options: Any) -> pl.Trainer:
        assert precision == "16-mixed"
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        return trainer(plugins=[*plugins, MixedPrecision("16-mixed", "cpu", scaler)], **options)

    monkeypatch.setattr(trainer_module, "lightning_precision", lambda precision, on_gpu: "16-mixed")
    monkeypatch.setattr(pl, "Trainer", scaling)


def test_with_fp16_an_overflow_skips_the_step_and_the_scale_is_in_the_checkpoint(
    spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale_losses(monkeypatch, 2.0**100)
    words = (RARELY, "train.precision=fp16")
    folder = train(spec_file, ONE, *words)
    assert state(folder / LATEST)["MixedPrecision"]["scale"] == 2.0**97  # three steps, three overflows
    train(spec_file, *words)
    assert state(folder / LATEST)["MixedPrecision"]["scale"] == 2.0**94
    assert changed(folder / "model_epoch_000.pth", folder / LATEST) == set()


def test_with_fp16_gradients_are_unscaled_before_they_are_clipped(
    spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def first_norm(precision: str) -> float:
        words = (ONE, RARELY, "train.iters_per_epoch=1", "train.verbose=true", f"train.precision={precision}")
        train(spec_file, *words, f"train.results_dir={tmp_path / precision}")
        (step,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step 1 ")]
        assert ("loss scale 1024" in step) == (precision == "fp16")
        return float(step.partition("gradient norm ")[2].split()[0])

    exact = first_norm("fp32")
    scale_losses(monkeypatch, 1024.0)
    assert first_norm("fp16") == pytest.approx(exact, rel=0.05)


def test_fp16_on_a_cpu_is_bf16_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert lightning_precision("fp16", on_gpu=True) == "16-mixed"
    assert capsys.readouterr().err == ""
    assert lightning_precision("fp16", on_gpu=False) == "bf16-mixed"
    assert capsys.readouterr().err == (
        "note: train.precision: fp16 needs a GPU; on this CPU the forward pass is computed in bf16\n"
    )


def test_memory_that_runs_out_is_one_line(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: Any) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr(TrainingModule, "training_step", exhaust)
    with pytest.raises(MemoryExhaustedError, match=r"^memory ran out .*dataset\.train\.batch_size below 2"):
        train(spec_file)
    lines = (spec_file.parent / "results" / "train" / "status.json").read_text().splitlines()
    assert json.loads(lines[-1])["status"] == "FAILURE"


def test_validation_comes_within_an_epoch_and_steps_count_accumulated_batches(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train.accumulate_grad_batches=2", "train.iters_per_epoch=2", "train.val_check_interval=0.5")
    folder = train(spec_file, ONE, *words)
    assert capsys.readouterr().err.count("validation: mIoU ") == 2
    assert (state(folder / LATEST)["global_step"], state(folder / LATEST)["batches_done"]) == (2, 4)
