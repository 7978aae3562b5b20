"""One side's training loop in a process of its own: `train.py` and `memory.py` start it and read what it prints.

python benchmarks/loop.py ours train.iters_per_epoch=5 …      # words of a spec on top of the settings below
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from model import PEER
from peers import hugging_face, hugging_face_loss
from timing import resident

from oneformer_data.training.pipeline import Example
from oneformer_data.training.pipeline import from_spec as open_pipeline
from oneformer_spec.loading.load import load_spec
from oneformer_spec.schema import Spec
from oneformer_train import command as commands
from oneformer_train.batches.loaders import ExampleStream, PositionBatches, TimedLoader, prepare_worker
from oneformer_train.checkpoints.position import Course
from oneformer_train.monitoring.metrics_table import METRICS, read_metrics
from oneformer_train.monitoring.stopwatch import Stopwatch

OURS = "oneformer"
NUCLEI = Path(__file__).resolve().parents[1] / "examples" / "nuclei"
SETTINGS = (
    "wandb.enable=false",
    f"dataset.label_map={NUCLEI / 'label_map.json'}",
    f"dataset.train.images={NUCLEI / 'images' / 'train'}",
    f"dataset.train.annotations={NUCLEI / 'annotations' / 'panoptic_train.json'}",
    f"dataset.train.panoptic={NUCLEI / 'panoptic' / 'train'}",
    "dataset.train.batch_size=2",
    "dataset.train.num_workers=1",
    "dataset.min_scale=1.0",
    "dataset.max_scale=1.2",
    "model.sem_seg_head.num_classes=2",
    "model.backbone.swin.preset=tiny",
    "train.num_epochs=1",
    "train.activation_checkpoint=false",
    "train.optim.lr=1e-4",
)


@dataclass(frozen=True)
class Loop:
    """What a loop did after its first batch: images per second, share of waiting, MB that it added to its process."""

    images_per_second: float
    wait_share: float
    megabytes: float


def start(side: str, words: tuple[str, ...], threads: int) -> Loop:
    """Run a side's loop in a fresh process."""
    command = [sys.executable, __file__, side, str(threads), *words]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return Loop(**json.loads(printed.splitlines()[-1]))


def ours(spec: Spec) -> Loop:
    """Run the command `train` itself and read its own figures."""
    before = resident()
    commands.run(spec)
    (row,) = [row for row in read_metrics(Path(spec.results_dir or "") / "train" / METRICS)][-1:]
    # Of several processes the first one has written down what it took, before it gathered a checkpoint.
    peak = resident() if spec.train.num_gpus == 1 else float(row["memory/peak_gb"]) * 1e9 / 2**20
    return Loop(float(row["speed/images_per_second"]), float(row["speed/loader_wait_share"]), peak - before)


def theirs(spec: Spec) -> Loop:
    """Train the peer on the same examples in a plain loop of PyTorch: forward, losses, backward, clipping, AdamW."""
    before = resident()
    pipeline, batch_size, steps = open_pipeline(spec), spec.dataset.train.batch_size, spec.train.iters_per_epoch or 1
    loader = TimedLoader(
        ExampleStream(pipeline, seed=spec.train.seed),
        batch_sampler=PositionBatches(Course(batches_per_epoch=steps, samples_per_batch=batch_size)),
        collate_fn=collated,
        num_workers=spec.dataset.train.num_workers,
        worker_init_fn=prepare_worker,
    )
    model = hugging_face(training=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.train.optim.lr, fused=True)
    watch = Stopwatch(loader)
    for image, tasks, texts, masks, labels in loader:
        watch.begin()
        hugging_face_loss(model, image, tasks, texts, masks, labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.train.clip_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        watch.end(len(image))
    return Loop(watch.images_per_second, watch.wait_share, resident() - before)


def collated(examples: list[Example]) -> tuple[Any, ...]:
    """Return a batch as the peer takes it: every text of an image in full, masks as numbers."""
    return (
        torch.stack([torch.from_numpy(example.image) for example in examples]),
        torch.stack([torch.from_numpy(example.task_tokens) for example in examples]),
        torch.stack([torch.from_numpy(example.text_tokens[example.text_index]) for example in examples]),
        [torch.from_numpy(example.masks).float() for example in examples],
        [torch.from_numpy(example.labels) for example in examples],
    )


def main() -> None:
    """Run the side that the command line names and print its figures as the last line."""
    import transformers  # noqa: F401  both sides begin with the same imports

    side, threads, *words = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        spec = load_spec([], [*SETTINGS, f"results_dir={folder}", *words]).spec
        print(json.dumps(asdict({OURS: ours, PEER: theirs}[side](spec))))


if __name__ == "__main__":
    main()
