"""The model against Hugging Face transformers on the CPU, random weights of Swin-T size, 133 classes, 150 queries.

    python benchmarks/model.py forward --size 640
    python benchmarks/model.py train --size 512

`forward`: our fp32, bf16 (autocast) and, with --compile, compiled forward pass against the peer's fp32.
`train`: forward, losses, backward and AdamW of a batch of two images with eight masks each, and the peak memory of
either side in a process of its own. Both sides alternate in one process; medians, spreads and ratios are printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch._inductor.config
from peers import CLASSES, CONTEXT, QUERIES, hugging_face, hugging_face_loss, squares
from timing import Run, compare, resident

import oneformer_model
from oneformer_model import Texts
from oneformer_model.build import build
from oneformer_spec.loading.load import load_spec

SWIN_TINY = ("model.backbone.swin.preset=tiny", "model.backbone.swin.drop_path_rate=0.1")
PEER = "transformers"
BATCH, MASKS, UNIQUE_TEXTS, TOKENS = 2, 8, 9, 77


def forward_sides(size: int, compiled: bool) -> dict[str, Run]:
    """Return the forward passes that are compared."""
    model = build(load_spec([], SWIN_TINY).spec.model, training=False).eval()
    peer = hugging_face(training=False)
    image, tokens = torch.randn(1, 3, size, size), oneformer_model.task_tokens("panoptic", 1)

    def ours(network: Callable[..., object], *, bf16: bool = False) -> Run:
        def run() -> None:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                network(image, tokens)

        return run

    def theirs() -> None:
        with torch.inference_mode():
            peer(pixel_values=image, task_inputs=tokens)

    sides: dict[str, Run] = {PEER: theirs, "fp32": ours(model), "bf16": ours(model, bf16=True)}
    if compiled:
        torch._inductor.config.freezing = True  # weights are constants, laid out once as the kernels want them
        sides["compiled"] = ours(torch.compile(model, fullgraph=True))
    return sides


def train_sides(size: int) -> dict[str, Callable[[], Run]]:
    """Return, per side, what builds its training step."""
    image, tokens = torch.randn(BATCH, 3, size, size), oneformer_model.task_tokens("panoptic", BATCH)
    masks = [squares(MASKS, size) for _ in range(BATCH)]
    labels = [torch.arange(MASKS) for _ in range(BATCH)]
    unique = torch.zeros(UNIQUE_TEXTS, TOKENS, dtype=torch.int64)
    for number, row in enumerate(unique):  # start, "a photo with a", a name, end
        row[:8] = torch.tensor([49406, 320, 1125, 593, 320, 1000 + number, 1001, 49407])
    index = torch.full((QUERIES - CONTEXT,), UNIQUE_TEXTS - 1)
    index[:MASKS] = torch.arange(MASKS)  # a text per mask, then the filler

    def ours() -> Run:
        from oneformer_train.loss.from_spec import criterion
        from oneformer_train.loss.matcher import Target

        spec = load_spec([], SWIN_TINY).spec
        model = build(spec.model, training=True).train()
        losses = criterion(spec)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        texts = Texts(unique[:, :8], index.expand(BATCH, -1))
        targets = [Target(label, mask.bool()) for label, mask in zip(labels, masks, strict=True)]

        def run() -> None:
            assert model.text_branch is not None
            loss = losses(model(image, tokens, texts), targets, model.text_branch.logit_scale)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    def theirs() -> Run:
        model = hugging_face(training=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        texts = unique[index].expand(BATCH, -1, -1)

        def run() -> None:
            hugging_face_loss(model, image, tokens, texts, masks, labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    return {PEER: theirs, "fp32": ours}


def peak_memory(side: str, size: int) -> float:
    """Return how many MB a side's training step adds to a process that has everything imported."""
    command = [sys.executable, __file__, "train", "--size", str(size), "--memory-of", side]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory_of(side: str, size: int) -> None:
    """Run two training steps of one side and print what they added."""
    before = resident()
    run = train_sides(size)[side]()
    for _ in range(2):
        run()
    print(resident() - before)


def main() -> None:
    """Run one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("forward", "train"))
    parser.add_argument("--size", type=int, default=512, help="height and width in pixels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="measure the compiled model too (minutes of compiling)")
    parser.add_argument("--memory-of", choices=(PEER, "fp32"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.memory_of:
        import transformers  # noqa: F401  both sides begin with the same imports

        import oneformer_train.command  # noqa: F401

        print_memory_of(options.memory_of, options.size)
        return
    size, threads = f"{options.size} x {options.size}", f"{options.threads} threads"
    if options.what == "forward":
        compare(
            forward_sides(options.size, options.compile),
            options.repeats,
            f"forward at {size}, batch 1, {threads}",
            peer=PEER,
        )
        return
    sides = {name: build_side() for name, build_side in train_sides(options.size).items()}
    what = f"training step at {size}, batch {BATCH}, {MASKS} masks each, {CLASSES} classes, {threads}"
    compare(sides, options.repeats, what, peer=PEER)
    peaks = {name: peak_memory(name, options.size) for name in sides}
    for name, value in peaks.items():
        share = "" if name == PEER else f"   {value / peaks[PEER]:.2f} of {PEER}"
        print(f"  {name:<14}{value:7.0f} MB{share}")


if __name__ == "__main__":
    main()
