"""Running out of memory ends with one line that names the fields that help."""

from __future__ import annotations

import pytest
import torch

from oneformer_spec.errors import OneFormerError
from oneformer_spec.loading.load import load_spec
from oneformer_train.diagnosis.out_of_memory import MemoryExhaustedError, explaining_memory, ran_out

ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of …"),
    RuntimeError("cuDNN error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "),
    MemoryError(),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_every_kind_of_exhaustion_is_one_line(error: Exception) -> None:
    spec = load_spec(
        [], ["dataset.train.batch_size=4", "dataset.train.num_workers=1", "train.activation_checkpoint=false"]
    ).spec
    with pytest.raises(MemoryExhaustedError) as caught, explaining_memory(spec):
        raise error
    message = str(caught.value)
    assert isinstance(caught.value, OneFormerError)
    assert caught.value.exit_code == 1
    assert "\n" not in message
    assert message.endswith(
        "less is needed with: a dataset.train.batch_size below 4, with train.accumulate_grad_batches above 1 to make "
        "up for it; a dataset.augmentation.train_crop_size below [1024, 1024]; train.activation_checkpoint=true; "
        "train.precision=bf16"
    )


def test_the_allocator_of_the_cpu_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert ran_out(caught.value)


def test_only_what_still_helps_is_advised() -> None:
    small = load_spec([], ["train.precision=bf16", "train.gpu_ids=[0,1]", "dataset.train.num_workers=8"]).spec
    with pytest.raises(MemoryExhaustedError) as caught, explaining_memory(small):
        raise MemoryError
    message = str(caught.value)
    assert "train.distributed_strategy=fsdp" in message
    assert "dataset.train.num_workers below 8" in message
    assert not any(word in message for word in ("batch_size", "activation_checkpoint", "precision"))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), explaining_memory(load_spec([]).spec):
        raise RuntimeError("shapes differ")
