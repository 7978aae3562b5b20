"""Forward pass in fp32 on the CPU: ours against Hugging Face transformers, random weights of Swin-T size.

The peer runs at its best documented setting: fused attention, inference mode, no training outputs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import oneformer_model
from oneformer_model.build import build
from oneformer_spec.load import load_spec

SWIN_TINY = ("model.backbone.swin.preset=tiny",)
HEAD = {"num_queries": 150, "num_labels": 133}


def ours() -> Callable[[torch.Tensor, torch.Tensor], object]:
    """Return our model for 133 classes and 150 queries."""
    return build(load_spec([], SWIN_TINY).spec.model, training=False).eval()


def hugging_face() -> Callable[[torch.Tensor, torch.Tensor], object]:
    """Return the peer of the same size."""
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

    swin = SwinConfig(
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        attn_implementation="sdpa",  # the whole model does not take it, its backbone does
    )
    config = OneFormerConfig(backbone_config=swin, is_training=False, **HEAD)
    model = OneFormerForUniversalSegmentation(config).eval()
    return lambda image, tokens: model(pixel_values=image, task_inputs=tokens)


def seconds(run: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Alternate both sides and print medians, spreads and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="height and width in pixels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    image = torch.randn(1, 3, options.size, options.size)
    tokens = oneformer_model.task_tokens("panoptic", 1)
    sides = {"oneformer": ours(), "transformers": hugging_face()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    with torch.inference_mode():
        for model in sides.values():
            model(image, tokens)
        for _ in range(options.repeats):
            for name, model in sides.items():
                times[name].append(seconds(lambda model=model: model(image, tokens)))  # type: ignore[misc]
    for name, values in times.items():
        print(f"{name:<14}{statistics.median(values):7.3f} s  ({min(values):.3f} to {max(values):.3f})")
    ratio = statistics.median(times["transformers"]) / statistics.median(times["oneformer"])
    print(f"{'ratio':<14}{ratio:7.2f}   at {options.size} x {options.size}, {options.threads} threads")


if __name__ == "__main__":
    main()
