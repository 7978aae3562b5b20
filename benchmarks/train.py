"""The whole training loop, from the loader to the optimiser, against Hugging Face's OneFormer in a loop of PyTorch.

    python benchmarks/train.py --size 512 --steps 5 --rounds 3

Both train Swin-T with 150 queries from random weights on the same examples of examples/nuclei, in fp32 on the CPU, two
images per step. Every measurement is a process of its own; the sides alternate. The first batch does not count.
"""

from __future__ import annotations

import argparse
import statistics

from loop import OURS, Loop, start
from model import PEER

VARIANTS = {
    PEER: (PEER, ()),
    OURS: (OURS, ()),
    f"{OURS}, activation_checkpoint": (OURS, ("train.activation_checkpoint=true",)),
}


def main() -> None:
    """Measure all variants and print medians, spreads and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="height and width in pixels of a crop")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    options = parser.parse_args()
    words = (
        f"dataset.augmentation.train_crop_size=[{options.size},{options.size}]",
        f"dataset.train.num_workers={options.workers}",
        f"train.iters_per_epoch={options.steps}",
    )
    found: dict[str, list[Loop]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name, (side, own) in VARIANTS.items():
            found[name].append(start(side, (*words, *own), options.threads))
    print(
        f"{options.size} x {options.size}, 2 images per step, {options.steps} steps, {options.threads} threads, "
        f"median of {options.rounds} (smallest to largest)"
    )
    peer_speed = statistics.median(loop.images_per_second for loop in found[PEER])
    peer_memory = statistics.median(loop.megabytes for loop in found[PEER])
    for name, loops in found.items():
        speeds = [loop.images_per_second for loop in loops]
        speed, memory = statistics.median(speeds), statistics.median(loop.megabytes for loop in loops)
        waiting = statistics.median(loop.wait_share for loop in loops)
        ratio = (
            "" if name == PEER else f"   {speed / peer_speed:.2f} times as fast, {memory / peer_memory:.2f} of its MB"
        )
        print(
            f"  {name:<34}{speed:7.3f} images/s ({min(speeds):.3f} to {max(speeds):.3f}){memory:7.0f} MB"
            f"{waiting:6.1%} waiting{ratio}"
        )


if __name__ == "__main__":
    main()
