"""An annotation file of COCO's size: the second start up to the first batch, and what several loaders take of memory.

`data.py annotations` runs this.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from oneformer_data.formats.id_png import write_ids

IMAGES, SEGMENTS = 118_000, 1_500_000


def write_annotations(folder: Path, images: int, segments: int) -> None:
    """Write a panoptic data set whose pictures are all the same two files."""
    for name in ("images", "panoptic"):
        (folder / name).mkdir(parents=True)
    ids = np.ones((64, 64), dtype=np.int32)
    Image.new("RGB", (64, 64)).save(folder / "first.jpg")
    write_ids(folder / "first.png", ids)
    picture, png = (folder / "first.jpg").read_bytes(), (folder / "first.png").read_bytes()
    rows, listed = [], []
    for number in range(1, images + 1):
        (folder / "images" / f"{number:012d}.jpg").write_bytes(picture)
        (folder / "panoptic" / f"{number:012d}.png").write_bytes(png)
        listed.append({"id": number, "file_name": f"{number:012d}.jpg", "height": 64, "width": 64})
        found = [
            {"id": 1 + n, "category_id": 1 + n % 2, "iscrowd": 0, "bbox": [n, n, 10, 10], "area": 4096}
            for n in range(segments * number // images - segments * (number - 1) // images)
        ]
        kept = found[:1] if number <= 64 else found  # what is loaded must agree with its PNG
        rows.append({"image_id": number, "file_name": f"{number:012d}.png", "segments_info": kept})
    document = {"images": listed, "annotations": rows}
    (folder / "panoptic.json").write_text(json.dumps(document))
    (folder / "labels.json").write_text(json.dumps([{"id": 1, "name": "a"}, {"id": 2, "name": "b", "isthing": 0}]))


LOADER = """
import json, os, sys, time
import torch
from torch.utils.data import DataLoader
from oneformer_data.training.pipeline import from_spec
from oneformer_spec.loading.load import load_spec
import oneformer_train.batches.loaders
import oneformer_data.formats.coco_panoptic, oneformer_data.opening.record_cache, oneformer_data.training.tokenizer
folder, workers = sys.argv[1], int(sys.argv[2])
spec = load_spec([], [
    f"dataset.train.images={folder}/images", f"dataset.train.annotations={folder}/panoptic.json",
    f"dataset.train.panoptic={folder}/panoptic", f"dataset.label_map={folder}/labels.json",
    "dataset.dataset_type=serialized", "dataset.augmentation.train_crop_size=[64, 64]",
    "model.sem_seg_head.num_classes=2",
]).spec
start = time.perf_counter()
examples = from_spec(spec)
class First:
    def __len__(self):
        return 64
    def __getitem__(self, index):
        import numpy as np
        return examples.example(index, np.random.default_rng(index)).image
loader = DataLoader(First(), batch_size=4, num_workers=workers, persistent_workers=True)
batches = iter(loader)
next(batches)
first = time.perf_counter() - start
for _ in batches:
    pass
def pss(process):
    with open(f"/proc/{process}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
print(json.dumps({"first": first, "pss": pss(os.getpid()) + sum(map(pss, children))}))
"""


def measure() -> None:
    """Measure starts and memory with a file of COCO's size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_annotations(folder / "large", IMAGES, SEGMENTS)
        write_annotations(folder / "small", 64, 64)
        os.environ["ONEFORMER_CACHE"] = f"{folder / 'cache'}"

        def load(which: str, workers: int) -> dict[str, float]:
            command = [sys.executable, "-c", LOADER, f"{folder / which}", f"{workers}"]
            found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            return found

        size = (folder / "large" / "panoptic.json").stat().st_size / 1e6
        print(f"{IMAGES} images, {SEGMENTS} segments, a JSON of {size:.0f} MB")
        print(f"  first start to first batch {load('large', 1)['first']:.1f} s")
        print(f"  second start to first batch {load('large', 1)['first']:.2f} s")
        load("small", 1)
        memory = {}
        for workers in (1, 4):
            memory[workers] = load("large", workers)["pss"] - load("small", workers)["pss"]
            print(f"  {workers} workers: {memory[workers]:.0f} MB beyond a file of 64 images (PSS of all processes)")
        print(f"  4 workers take {memory[4] / memory[1]:.2f} times the memory of 1")
