import subprocess
import sys

import pytest
import torch
from torch import nn

from oneformer_model.network.norms import NORMS, GroupNorm


def test_group_norm_is_exact_for_channels_last_maps():
    torch.manual_seed(0)
    norm = GroupNorm(4, 16)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = (torch.randn(2, 16, 96, 130) + 50).to(memory_format=torch.channels_last)
    exact = nn.functional.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double())
    torch.testing.assert_close(norm(x).double(), exact, atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [32, 48, 6])
def test_group_norm_takes_any_number_of_channels(channels):
    assert NORMS["GN"](channels).num_groups == {32: 32, 48: 16, 6: 2}[channels]


def test_the_layer_norm_of_maps_normalises_each_pixel():
    normed = NORMS["LN"](16)(torch.randn(2, 16, 3, 5) * 4 + 7)
    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(2, 3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.std(dim=1, correction=0), torch.ones(2, 3, 5), atol=1e-3, rtol=0)


def test_batch_norms_remember_what_they_saw():
    x = torch.randn(4, 8, 5, 5) + 3
    for name in ("BN", "SyncBN"):
        norm = NORMS[name](8)
        norm(x)
        torch.testing.assert_close(norm.running_mean, 0.1 * x.mean(dim=(0, 2, 3)))
        norm.eval()
        assert torch.equal(norm(x[:1]), norm(x)[:1])  # images of a batch do not touch each other


def test_sync_batch_norm_without_a_process_group_is_batch_norm():
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(NORMS["SyncBN"](8)(x), NORMS["BN"](8)(x))


HALF_OF_A_BATCH = """
import sys
import torch
import torch.distributed as dist
from oneformer_model.network.norms import SyncBatchNorm

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
x = torch.load(f"{folder}/x.pt")[[rank]].requires_grad_()
norm = SyncBatchNorm(x.shape[1])
(norm(x) ** 3).sum().backward()
torch.save([x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var], f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_sync_batch_norm_normalises_over_all_processes(tmp_path):
    """Two processes with one image each do what one process does with both."""
    x = torch.randn(2, 3, 4, 5)
    torch.save(x, tmp_path / "x.pt")
    words = [sys.executable, "-c", HALF_OF_A_BATCH, str(tmp_path)]
    processes = [subprocess.Popen([*words, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    both, norm = x.clone().requires_grad_(), nn.BatchNorm2d(3)
    (norm(both) ** 3).sum().backward()
    torch.testing.assert_close(torch.cat([first[0], second[0]]), both.grad)
    torch.testing.assert_close(first[1] + second[1], norm.weight.grad)
    torch.testing.assert_close(first[2] + second[2], norm.bias.grad)
    for part in (first, second):
        torch.testing.assert_close(part[3], norm.running_mean)
        torch.testing.assert_close(part[4], norm.running_var)
