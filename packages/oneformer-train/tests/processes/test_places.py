"""Who takes part, how far a run is for other batches, and who speaks when it fails."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.processes.world import World
from oneformer_spec.schema import TrainSection
from oneformer_train.batches.loaders import PictureBatches, PositionBatches
from oneformer_train.checkpoints.position import Course
from oneformer_train.processes.failures import PeerError, failing_together, reported
from oneformer_train.processes.places import check_devices, joined_world, meeting_place, node_rank

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
SRUN = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"}
TWO_BY_TWO = TrainSection(num_gpus=2, num_nodes=2, gpu_ids=(0, 1))


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN])
def test_torchrun_and_srun_say_who_this_process_is(environment: dict[str, str]) -> None:
    assert joined_world(TWO_BY_TWO, environment) == World(3, 1, 4, 2)


def test_a_process_of_its_own_is_in_no_world() -> None:
    assert joined_world(TWO_BY_TWO, {}) is None
    assert joined_world(TWO_BY_TWO, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}) is None


@pytest.mark.parametrize(
    ("environment", "train", "message"),
    [
        (TORCHRUN, TrainSection(), r"torchrun started 4 processes \(WORLD_SIZE\), but .* 1 on each of 1 machines"),
        (SRUN, TrainSection(num_gpus=2), r"srun started 4 processes \(SLURM_STEP_NUM_TASKS\), but .* 2 on each of 1"),
        (TORCHRUN | {"LOCAL_RANK": "3"}, TWO_BY_TWO, r"process 3 number 3 of its machine \(LOCAL_RANK\), but"),
        (TORCHRUN | {"RANK": "2"}, TWO_BY_TWO, r"process 2 number 1 of its machine"),
    ],
)
def test_another_number_of_processes_than_the_spec_asks_for_is_an_error(
    environment: dict[str, str], train: TrainSection, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        joined_world(train, environment)


def test_several_machines_need_a_meeting_place() -> None:
    meeting = {"MASTER_ADDR": "host", "MASTER_PORT": "1234"}
    assert node_rank(TWO_BY_TWO, meeting | {"NODE_RANK": "1"}) == 1
    assert meeting_place(meeting) == ("host", 1234)
    assert meeting_place({"SLURM_NODELIST": "node[5-8],other", "SLURM_JOB_ID": "81234"}) == ("node5", 16234)
    with pytest.raises(SpecError, match=r"torchrun or srun, or set MASTER_PORT, NODE_RANK there"):
        node_rank(TWO_BY_TWO, {"MASTER_ADDR": "host"})
    with pytest.raises(SpecError, match=r"NODE_RANK is 2, of 2 machines"):
        node_rank(TWO_BY_TWO, meeting | {"NODE_RANK": "2"})


def test_more_gpus_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    eight = TrainSection(num_gpus=8, gpu_ids=tuple(range(8)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 6)
    with pytest.raises(SpecError, match=r"^train\.gpu_ids: 6, 7: torch sees 6 GPUs here$"):
        check_devices(eight)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    check_devices(eight)  # eight CPU processes


def test_processes_share_a_batch_of_the_stream() -> None:
    course = Course(batches_per_epoch=2, samples_per_batch=4)
    shares = [list(PositionBatches(course, World(rank=rank, size=2))) for rank in range(2)]
    assert shares == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]


@pytest.mark.parametrize("pictures", [0, 1, 4, 5, 9, 12])
def test_pictures_come_once_in_the_batches_of_one_process(pictures: int) -> None:
    shares = [list(PictureBatches(pictures, 2, World(rank=rank, size=3))) for rank in range(3)]
    assert len({len(share) for share in shares}) <= 1
    assert sorted(batch for share in shares for batch in share if batch) == list(PictureBatches(pictures, 2))
    assert sorted(index for share in shares for batch in share for index in batch) == list(range(pictures))


def test_a_run_of_other_batches_goes_on_with_the_next_sample_at_the_same_part_of_its_epoch() -> None:
    before = Course(batches_per_epoch=25, samples_per_batch=4, batches_done=28, samples_done=112)
    after = Course(batches_per_epoch=50, samples_per_batch=2)
    assert after.resume(before.state()) == 56
    assert (after.batches_done, after.samples_done, after.batches_left()) == (56, 112, 44)
    uneven = Course(batches_per_epoch=32, samples_per_batch=3, accumulate=4)
    assert uneven.resume(before.state()) == 8  # 28 of 25 per epoch are 8.96 of 8 steps
    assert (uneven.batches_done, uneven.samples_done, uneven.batches_left()) == (32, 112, 32)
    same = Course(batches_per_epoch=25, samples_per_batch=8)
    assert same.resume(before.state()) is None
    assert (same.batches_done, same.samples_done) == (28, 112)


def test_the_first_to_fail_speaks_and_the_others_end_as_it_did() -> None:
    store = dist.HashStore()
    assert reported(store) is None
    with pytest.raises(DataError, match=r"a\.png: broken"), failing_together(store, 1):
        raise DataError("a.png: broken")
    with pytest.raises(PeerError, match=r"a\.png: broken"), failing_together(store, 0):
        raise RuntimeError("connection closed by peer")
    failure = reported(store)
    assert failure is not None and failure.rank == 1
    assert str(failure.error()) == "a.png: broken"
    assert "DataError" in failure.error().__notes__[0]
    other = dist.HashStore()
    with pytest.raises(ZeroDivisionError), failing_together(other, 2):
        _ = 1 / 0
    failure = reported(other)
    assert failure is not None and failure.text.startswith("process 2: ZeroDivisionError: division by zero (")
