"""The order of training depends on the seed and the position alone."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oneformer_data.training.pipeline import Example
from oneformer_spec.schema import TrainSection
from oneformer_spec.tasks import Task
from oneformer_train.batches.batch import collate
from oneformer_train.batches.loaders import ExampleStream, PositionBatches, batches_per_epoch
from oneformer_train.checkpoints.position import Course


class Pipeline:
    """Records which index and which random draw an example was made of."""

    def __len__(self) -> int:
        return 7

    def example(self, index: int, rng: np.random.Generator) -> Any:
        return index, rng.integers(1 << 30)


def stream(seed: int) -> ExampleStream:
    return ExampleStream(Pipeline(), seed=seed)  # type: ignore[arg-type]


def test_each_pass_visits_every_sample_once_in_another_order() -> None:
    order = [stream(3)[position][0] for position in range(21)]  # type: ignore[index]
    passes = [order[:7], order[7:14], order[14:]]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_an_example_depends_on_its_position_alone() -> None:
    forwards, one = stream(3), stream(3)
    assert [forwards[position] for position in range(21)][20] == one[20]
    assert stream(4)[20] != one[20]


def test_an_epoch_goes_on_where_the_run_stopped() -> None:
    def left(done: int) -> list[list[int]]:
        return list(PositionBatches(Course(3, 2, batches_done=done, samples_done=2 * done)))

    assert left(0) == [[0, 1], [2, 3], [4, 5]]
    assert left(3) == [[6, 7], [8, 9], [10, 11]]
    assert left(4) == [[8, 9], [10, 11]]


@pytest.mark.parametrize(
    ("iters_per_epoch", "accumulate", "expected"), [(None, 1, 25), (None, 3, 24), (10, 1, 10), (10, 3, 30)]
)
def test_length_of_an_epoch(iters_per_epoch: int | None, accumulate: int, expected: int) -> None:
    train = SimpleNamespace(iters_per_epoch=iters_per_epoch, accumulate_grad_batches=accumulate)
    assert batches_per_epoch(100, 4, train) == expected  # type: ignore[arg-type]
    assert batches_per_epoch(1, 4, TrainSection()) == 1


def example(rows: list[list[int]], index: list[int], size: tuple[int, int] = (4, 4)) -> Example:
    return Example(
        name="x",
        task=Task.PANOPTIC,
        image=np.ones((3, *size), dtype=np.float32),
        task_tokens=np.zeros(77, dtype=np.float32),
        labels=np.zeros(1, dtype=np.int64),
        masks=np.ones((1, *size), dtype=bool),
        text_tokens=np.array([row + [0] * (10 - len(row)) for row in rows], dtype=np.int64),
        text_index=np.array(index, dtype=np.int64),
    )


def test_a_batch_holds_each_different_text_once_and_cut_to_the_longest() -> None:
    first, second = example([[5, 1, 9], [5, 9]], [0, 1, 1]), example([[5, 9], [5, 2, 2, 9]], [1, 0, 0])
    batch = collate([first, second])
    assert batch.texts.tokens.shape == (3, 4)
    wanted = [[[5, 1, 9, 0], [5, 9, 0, 0], [5, 9, 0, 0]], [[5, 2, 2, 9], [5, 9, 0, 0], [5, 9, 0, 0]]]
    assert batch.texts.tokens[batch.texts.index].tolist() == wanted
    assert collate([first, second], cut_texts=False).texts.tokens.shape == (3, 10)


def test_pictures_of_different_sizes_are_padded_right_and_bottom() -> None:
    batch = collate([example([[5, 9]], [0], (3, 5)), example([[5, 9]], [0], (4, 2))])
    assert batch.image.shape == (2, 3, 4, 5)
    assert [mask.shape for mask in batch.masks] == [(1, 4, 5)] * 2
    assert batch.image[1, 0].tolist() == [[1, 1, 0, 0, 0]] * 4
    assert batch.masks[0][0].sum() == 15
