"""What is measured: the time of steps, the waiting within it, and memory."""

from __future__ import annotations

import time

import pytest
import torch
from torch.utils.data import Dataset

from oneformer_train.batches.loaders import TimedLoader
from oneformer_train.monitoring.stopwatch import Stopwatch, peak_memory


class Slow(Dataset[int]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        time.sleep(0.02)
        return index


def test_a_loader_knows_how_long_it_was_waited_for() -> None:
    loader = TimedLoader(Slow(), batch_size=1)
    assert [batch.item() for batch in loader] == [0, 1, 2]
    assert loader.seconds_waited >= 3 * 0.02


def test_a_stopwatch_counts_steps_and_waiting_but_not_the_first_batch_nor_what_lies_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    loader = TimedLoader(Slow(), batch_size=1)
    watch = Stopwatch(loader)
    for waited in (100.0, 1.0, 1.0):  # the first batch starts the workers
        loader.seconds_waited += waited
        watch.begin()
        now += 3.0
        watch.end(images=2)
        now += 1000.0  # a validation
    assert (watch.batches, watch.images, watch.seconds) == (2, 4, 8.0)
    assert watch.images_per_second == 0.5
    assert watch.wait_share == 0.25
    watch.reset()
    assert (watch.images_per_second, watch.wait_share) == (0.0, 0.0)


def test_the_peak_of_memory_stays_when_memory_is_given_back() -> None:
    before = peak_memory(torch.device("cpu"))
    block = torch.ones(60_000_000)  # 0.24 GB
    during = peak_memory(torch.device("cpu"))
    del block
    after = peak_memory(torch.device("cpu"))
    assert during > before + 0.1
    assert after == pytest.approx(during, abs=0.01)  # the kernel counts in batches
