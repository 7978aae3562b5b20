"""Deployment: an image file in, results out, with every runtime, against Hugging Face transformers on the CPU.

    python benchmarks/deploy.py images --size 640
    python benchmarks/deploy.py decode

Both sides have one set of random weights of Swin-T size (133 classes, 150 queries). In their INT8 form all layers
compute in INT8: it tells the speed, and nothing about scores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from peers import CLASSES, QUERIES, HuggingFaceProcessor, hugging_face_pipeline, semantic_of_full_size
from PIL import Image
from runtimes import RUNTIMES, how, quantize
from timing import CLOCKS, Run, compare

import oneformer_model
from oneformer_model.build import build
from oneformer_model.onnx_export.export import run as export
from oneformer_model.weights import checkpoint
from oneformer_model.weights.conversion import convert
from oneformer_spec.files.images import read_image
from oneformer_spec.labels import Labels
from oneformer_spec.loading.load import load_spec
from oneformer_spec.segmentation.decode import Thresholds, decode
from oneformer_spec.segmentation.frame import ShortestEdge, plan
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.model_file import open_model
from oneformer_spec.tasks import TASKS, Task

PEER, THINGS, KEPT = "transformers", 80, 30
SWIN_TINY = "model.backbone.swin.preset=tiny"
ROWS = [{"id": n + 1, "name": f"class {n}", "isthing": int(n < THINGS), "color": [n, n, n]} for n in range(CLASSES)]
LABELS = Labels.parse(ROWS, source="benchmark")


def files(folder: Path, size: int) -> dict[str, Path]:
    """Write random weights in every form, and a photograph's worth of noise, which calibrates the INT8 form."""
    torch.manual_seed(0)
    spec = load_spec([], [SWIN_TINY, f"dataset.image_size=[{size},{size}]"]).spec
    model = build(spec.model, training=False).eval()
    image = smooth_image(size)
    _keep(model, image, KEPT)
    found = {
        "pth": folder / "model.pth",
        "onnx": folder / "model.onnx",
        "peer": folder / "peer",
        "image": folder / "images" / "a.jpg",
    }
    found["image"].parent.mkdir()
    checkpoint.save(found["pth"], state_dict=model.state_dict(), manifest=Manifest.from_spec(spec, LABELS, {}))
    Image.fromarray(image).save(found["image"], quality=95)
    convert(found["pth"], found["peer"], inference=True)
    words = [f"results_dir={folder}", f"export.checkpoint={found['pth']}", f"export.onnx_file={found['onnx']}"]
    export(load_spec([], [*words, f"export.input_height={size}", f"export.input_width={size}"]).spec)
    calibration = f"dataset.quant_calibration_dataset.images_dir={found['image'].parent}"
    found["int8"] = quantize(found["onnx"], folder, [], [calibration, "quantize.max_metric_drop=1"])
    return found


def smooth_image(size: int) -> NDArray[np.uint8]:
    """Return soft blobs under noise, uint8 (size, size, 3)."""
    generator = np.random.default_rng(0)
    blobs = Image.fromarray(generator.integers(0, 256, (size // 32, size // 32, 3), dtype=np.uint8))
    noise = generator.normal(0, 8, (size, size, 3))
    return np.clip(np.asarray(blobs.resize((size, size), Image.Resampling.BICUBIC)) + noise, 0, 255).astype(np.uint8)


def _keep(model: torch.nn.Module, image: NDArray[np.uint8], count: int) -> None:
    """Sharpen random class logits until `count` queries are sure of a class, as those of a trained network are."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 128 - 1
    with torch.inference_mode():
        logits = model(pixels, oneformer_model.task_tokens("panoptic", 1)).class_logits[0]
    low, high = 1.0, 1000.0
    for _ in range(30):
        middle = (low * high) ** 0.5
        scores, classes = (logits * middle).softmax(-1).max(-1)
        enough = int(((scores > Thresholds().object_mask) & (classes < CLASSES)).sum()) >= count
        low, high = (low, middle) if enough else (middle, high)
    with torch.no_grad():
        model.get_parameter("query_decoder.class_head.weight").mul_(high)
        model.get_parameter("query_decoder.class_head.bias").mul_(high)


def image_sides(folder: Path, size: int, threads: int, task: Task) -> dict[str, Run]:
    """Return, per runtime, the way from an image file to the results."""
    found = files(folder, size)
    peer = hugging_face_pipeline(found["peer"], HuggingFaceProcessor(found["peer"], size, THINGS))
    tokens = oneformer_model.task_tokens(task, 1)

    def ours(file: str, runtime: str, precision: str) -> Run:
        spec = load_spec([], how(runtime, precision, threads)).spec
        segmenter = open_model(str(found[file]), spec, spec.inference)
        return lambda: segmenter.predict([read_image(found["image"])], task)

    sides: dict[str, Run] = {PEER: lambda: peer(found["image"], task, tokens)}
    return sides | {name: ours(*row) for name, row in RUNTIMES.items()}


def decode_sides(task: Task, height: int, width: int) -> dict[str, Run]:
    """Return the post-processing of one image's logits, ours from numpy's and from torch's, and the peer's."""
    generator = torch.Generator().manual_seed(0)
    frame = plan((height, width), ShortestEdge(640, 1333), divisibility=32)
    rows, columns = (edge // 4 for edge in frame.padded)
    coarse = torch.randn(1, QUERIES, rows // 8, columns // 8, generator=generator) * 6 - 4
    masks = torch.nn.functional.interpolate(coarse, size=(rows, columns), mode="bicubic")
    classes = torch.randn(1, QUERIES, CLASSES + 1, generator=generator)
    sure = torch.randint(0, CLASSES, (KEPT,), generator=generator)
    classes[0, torch.arange(KEPT), sure] += 10
    classes[0, KEPT:, -1] += 10

    def ours(class_logits: object, mask_logits: object) -> Run:
        return lambda: decode(
            class_logits, mask_logits, task=task, frame=frame, labels=LABELS, thresholds=Thresholds(), min_score=0.0
        )

    output = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    with tempfile.TemporaryDirectory() as name:
        peer = HuggingFaceProcessor(Path(name), 640, THINGS)
    theirs: dict[str, Run] = {PEER: lambda: peer.decode(output, task, (height, width))}
    if task is Task.SEMANTIC:
        theirs["published order"] = lambda: semantic_of_full_size(classes, masks, (height, width))
    return theirs | {
        "ours, numpy": ours(classes[0].numpy(), masks[0].numpy()),
        "ours, torch": ours(classes[0], masks[0]),
    }


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", type=int, default=torch.get_num_threads())
    common.add_argument("--repeats", type=int, default=7)
    common.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for busy machines")
    what = result.add_subparsers(dest="what", required=True)
    images = what.add_parser("images", parents=[common], help="image file in, results out")
    images.add_argument("--size", type=int, default=640, help="height and width in pixels")
    images.add_argument("--task", type=Task, choices=TASKS, default=Task.PANOPTIC)
    what.add_parser("decode", parents=[common], help="post-processing alone, at 640 x 480 pixels")
    return result


def main() -> None:
    """Run one comparison."""
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    against = {"peer": PEER, "clock": arguments.clock}
    if arguments.what == "images":
        with tempfile.TemporaryDirectory() as name:
            sides = image_sides(Path(name), arguments.size, arguments.threads, arguments.task)
            size = f"{arguments.size} x {arguments.size}"
            compare(sides, arguments.repeats, f"{arguments.task}, {size}, {arguments.threads} threads", **against)
        return
    for task in TASKS:
        compare(decode_sides(task, 480, 640), arguments.repeats, f"post-processing, {task}, 640 x 480", **against)


if __name__ == "__main__":
    main()
