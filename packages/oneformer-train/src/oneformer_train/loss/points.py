"""Point sampling: mask losses look at a few thousand points instead of all pixels (PointRend, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

DrawPoints = Callable[[Sequence[int], int], Tensor]
"""(masks of each image, N in all; points P) -> coordinates (N, P, 2), x then y, each in [0, 1)."""


def uniform_points(device: torch.device, generator: torch.Generator | None = None) -> DrawPoints:
    """Return a source of uniform points from a generator on `device`, or from torch's global one."""
    return lambda masks, points: torch.rand(sum(masks), points, 2, device=device, generator=generator)


def points_of_images(device: torch.device, seeds: Sequence[int]) -> DrawPoints:
    """Return a source of uniform points with a seed per image: an image's points depend on no other image."""
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def draw(masks: Sequence[int], points: int) -> Tensor:
        drawn = [
            torch.rand(count, points, 2, device=device, generator=generator)
            for count, generator in zip(masks, generators, strict=True)
        ]
        return torch.cat(drawn)

    return draw


def sample(planes: Tensor, points: Tensor) -> Tensor:
    """Interpolate planes (N, D, H, W) linearly at points (N, P, 2); returns (N, D, P).

    A point (x, y) in the unit square lies at pixel (x W - 0.5, y H - 0.5); outside the image counts as 0.
    """
    grid = 2.0 * points.unsqueeze(2) - 1.0  # (N, P, 2) -> (N, P, 1, 2)
    return F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(-1)


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """Do what `sample` does for maps of many channels, (B, D, h, w) at (B, P, 2), channels last: (B, P, D).

    On CPUs a point is a bag of four rows of channels, a fifth of the time of `grid_sample`, which goes channel by
    channel. There, no derivatives.
    """
    if features.device.type != "cpu":
        return sample(features, points).transpose(1, 2)
    batch, channels, height, width = features.shape
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5  # (B, P)
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    columns = torch.stack((left, left + 1, left, left + 1), dim=-1)  # (B, P, 4)
    rows = torch.stack((top, top, top + 1, top + 1), dim=-1)
    across = torch.stack((1 - right_share, right_share), dim=-1)
    down = torch.stack((1 - bottom_share, bottom_share), dim=-1)
    shares = (down[..., :, None] * across[..., None, :]).flatten(2)  # (B, P, 4)
    shares = shares * ((columns >= 0) & (columns < width) & (rows >= 0) & (rows < height))
    cells = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    first = torch.arange(batch, device=features.device)[:, None, None] * (height * width)
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)  # a view where the map is channels-last
    sums = F.embedding_bag(
        (cells.long() + first).flatten(0, 1), table, mode="sum", per_sample_weights=shares.flatten(0, 1)
    )
    return sums.view(batch, -1, channels)


def uncertain_points(
    logits: Tensor, num_points: int, *, oversample_ratio: float, importance_ratio: float, draw: Callable[[int], Tensor]
) -> Tensor:
    """Return points (N, P, 2) of masks (N, h, w), most of them where the logit is nearest to 0.

    Of `oversample_ratio` times P uniform points the most uncertain fill `importance_ratio` of the result; the rest is
    uniform. `draw` returns a number of uniform points for each mask.
    """
    num_uncertain = int(importance_ratio * num_points)
    candidates = draw(int(num_points * oversample_ratio))
    uncertainty = -sample(logits.unsqueeze(1), candidates).squeeze(1).abs()  # (N, oversampled P)
    chosen = uncertainty.topk(num_uncertain, dim=1).indices
    picked = candidates.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 2))
    if num_uncertain == num_points:
        return picked
    return torch.cat([picked, draw(num_points - num_uncertain)], dim=1)
