"""The network; its keywords are the options, with the same defaults."""

from torch import Tensor, nn


def halve(channels: int, out_channels: int) -> nn.Module:
    """Return a layer that halves a map, rounding up."""
    return nn.Sequential(nn.Conv2d(channels, out_channels, 3, stride=2, padding=1), nn.GELU())


class ConvPyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32, each made from the one before."""

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.channels = {f"res{level}": width * 2 ** (level - 2) for level in range(2, 6)}
        self.strides = {f"res{level}": 2**level for level in range(2, 6)}
        self.stem = halve(3, width)
        self.stages = nn.ModuleList(halve(max(channels // 2, width), channels) for channels in self.channels.values())

    def stem_and_stages(self) -> list[nn.Module]:
        """Return what `model.backbone.freeze_at` counts; optional."""
        return [self.stem, *self.stages]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return a map (B, channels, ceil(H / stride), ceil(W / stride)) per level."""
        x, maps = self.stem(image), {}
        for level, stage in zip(self.channels, self.stages, strict=True):
            x = maps[level] = stage(x)
        return maps
