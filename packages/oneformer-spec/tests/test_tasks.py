"""The task rows are those that the published weights were trained with."""

import numpy as np
import pytest

from oneformer_spec.tasks import TASKS, Task, task_prompt, task_row, task_tokens


def test_prompts():
    assert [task_prompt(task) for task in TASKS] == [
        "The task is semantic",
        "The task is instance",
        "The task is panoptic",
    ]


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_padded_with_zeros_after_one_end_token(task):
    row = task_row(task)
    assert len(row) == 77
    end = row.index(49407)
    assert row[0] == 49406
    assert not any(row[end + 1 :])


def test_tokens_are_raw_ids_as_floats_one_row_per_picture():
    tokens = task_tokens(Task.SEMANTIC, batch_size=3, length=20)
    assert (tokens.shape, tokens.dtype) == ((3, 20), np.float32)
    assert tokens[2, :7].tolist() == [49406, 518, 10549, 533, 29119, 1550, 49407]


def test_a_row_too_short_for_the_prompt_is_refused():
    assert task_row(Task.PANOPTIC, 7)[-1] == 49407
    with pytest.raises(ValueError, match="6 tokens is too short for 'The task is panoptic', which has 7"):
        task_row(Task.PANOPTIC, 6)
