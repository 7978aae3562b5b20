"""Several processes stop together, on the batch of the one that failed, and share their validation losses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from oneformer_model import Texts
from oneformer_train.processes import group
from oneformer_train.batches.batch import Batch
from oneformer_train.loss.nonfinite import NonFiniteError, check_finite
from oneformer_train.loss.criterion import Criterion, LossWeights, PointOptions
from oneformer_train.diagnosis.reproduction import _of_failing_rank
from oneformer_train.validation.validation_loss import ValidationLoss

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
check_finite("the loss", group.mean(torch.tensor(1.0)), {})
loss = torch.tensor([1.0, float("nan")][rank])
try:
    check_finite("the loss", group.mean(loss), {"loss": loss})
except NonFiniteError as error:
    empty = torch.zeros(0)
    batch = Batch([f"{rank}.png"], empty, empty, [], [], Texts(empty, empty))
    terms, found, failed = _of_failing_rank(error.terms, batch)
    print(found.names, terms, failed)
criterion = Criterion(num_classes=1, weights=LossWeights(1, 1, 1, 1), points=PointOptions(1, 1, 1), no_object_weight=1,
                      deep_supervision=True)
loss = ValidationLoss(criterion, factor=2.0)
loss._sums = [None, torch.tensor([6.0, 3.0])][rank]  # one rank had no picture
print(loss.compute(torch.device("cpu")).item())
"""


def test_ranks_stop_together_and_share_their_losses(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=240) for rank in processes]
    for said, errors in outputs:
        assert said.splitlines() == ["['1.png'] {'loss': nan} 1", "4.0"], errors
