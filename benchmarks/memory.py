"""What the fields that save memory do: peak memory of the command `train`, as a table for docs/training.md.

    python benchmarks/memory.py --size 256

Swin-T with 150 queries on examples/nuclei in fp32 on the CPU, four images per optimiser step. Every row is a process of
its own; MB are what training adds to a process that has everything imported, to the first one of two.
"""

from __future__ import annotations

import argparse

from loop import OURS, start

VARIANTS = {
    "batch_size 4": ("dataset.train.batch_size=4",),
    "batch_size 4, activation_checkpoint": ("dataset.train.batch_size=4", "train.activation_checkpoint=true"),
    "batch_size 2, accumulate_grad_batches 2": ("dataset.train.batch_size=2", "train.accumulate_grad_batches=2"),
    "batch_size 1, accumulate_grad_batches 4": ("dataset.train.batch_size=1", "train.accumulate_grad_batches=4"),
    "batch_size 4, crops of half the area, fixed_padding": (
        "dataset.train.batch_size=4",
        "dataset.min_scale=0.7",
        "dataset.max_scale=0.71",
    ),
    "batch_size 4, crops of half the area, no fixed_padding": (
        "dataset.train.batch_size=4",
        "dataset.min_scale=0.7",
        "dataset.max_scale=0.71",
        "dataset.augmentation.fixed_padding=false",
    ),
}
TOGETHER = ("dataset.train.batch_size=2", "train.num_gpus=2")
STRATEGIES = {
    f"two processes with batch_size 2, {name}": (*TOGETHER, f"train.distributed_strategy={name}")
    for name in ("ddp", "ddp_sharded", "fsdp")
}


def main() -> None:
    """Measure all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels of a crop")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    words = (
        f"dataset.augmentation.train_crop_size=[{options.size},{options.size}]",
        f"train.iters_per_epoch={options.steps}",
    )
    print("| | peak MB | of the first row |\n|---|---|---|")
    first = 0.0
    for name, own in (VARIANTS | STRATEGIES).items():
        memory = start(OURS, (*words, *own), options.threads).megabytes
        first = first or memory
        print(f"| {name} | {memory:,.0f} | {memory / first:.2f} |", flush=True)


if __name__ == "__main__":
    main()
