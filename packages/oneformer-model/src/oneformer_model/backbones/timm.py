"""Any model of timm as a feature extractor, EfficientViT among them.

A model with maps of several strides hands out those of 4, 8, 16 and 32 pixels. A model whose maps all have one stride,
a plain vision transformer, gets a simple feature pyramid on its last map, which its final norm has normalised.

Images are filled with zeros at the right and at the bottom to multiples of 32 pixels, and the maps are cut back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneformer_model.backbones.pyramid import WIDTH, SimpleFeaturePyramid
from oneformer_model.backbones.timm_model import STRIDES, make_extractor, one_line, stem_and_stages, trained_state
from oneformer_model.constants import is_zero, plain_sizes

_MULTIPLE = max(STRIDES.values())
_PROBE = (2 * _MULTIPLE, 3 * _MULTIPLE)  # no size that a model was made for


def efficientvit(*, variant: str = "b1") -> TimmBackbone:
    """Return EfficientViT (Cai et al., 2023), b0 to b3 or l1 or l2."""
    return TimmBackbone(name=f"efficientvit_{variant}")


class TimmBackbone(nn.Module):
    """A model of timm without its classifier."""

    def __init__(
        self,
        *,
        name: str = "convnext_tiny",
        options: Mapping[str, Any] = MappingProxyType({}),
        pretrained: bool = False,
    ) -> None:
        """Build with fresh weights; `initialise` is what heeds `pretrained`.

        Raises:
            ValueError: timm has no such model or refuses its options, or the model gives no maps of images of any size.
        """
        super().__init__()
        self.name, self.options, self.pretrained = name, dict(options), pretrained
        self.model, self._used, self._ends = extractor = make_extractor(name, self.options)
        self.pyramid: SimpleFeaturePyramid | None = None
        if extractor.is_plain:
            (tap,) = self._used
            self.strides, self.channels = dict(STRIDES), dict.fromkeys(STRIDES, WIDTH)
            self.pyramid = SimpleFeaturePyramid(tap.channels, stride=tap.stride, strides=STRIDES)
        else:
            taps = {level: tap for level, stride in STRIDES.items() for tap in self._used if tap.stride == stride}
            self.strides = {level: tap.stride for level, tap in taps.items()}
            self.channels = {level: tap.channels for level, tap in taps.items()}
        self._try()

    def _try(self) -> None:
        """Raise ValueError where the model does not run at a size of its own, or its maps are not as it says."""
        try:
            with torch.no_grad():
                features = self.eval()(torch.zeros(1, 3, *_PROBE))
        except Exception as error:  # whatever a model raises where its input does not suit it
            size = " x ".join(map(str, _PROBE))
            raise ValueError(f"name: {self.name} takes no image of {size} pixels: {one_line(error)}") from error
        self.train()
        for level, stride in self.strides.items():
            found = tuple(features[level].shape[1:])
            expected = (self.channels[level], *(size // stride for size in _PROBE))
            if found != expected:
                raise ValueError(f"name: {self.name} gives a map {found} at stride {stride}, expected {expected}")

    def initialise(self, path: str | None) -> list[str]:
        """Take the weights of a file; without one those of timm's hub if `pretrained`, else keep the fresh ones.

        Returns:
            One line about what was taken, none where nothing was.

        Raises:
            CheckpointError: The weights cannot be had or do not fit.
        """
        if path is None and not self.pretrained:
            return []
        state = trained_state(self.name, self.options, path)
        self.model.load_state_dict(state)
        return [f"{path or 'timm'}: {len(state)} tensors of {self.name} are read into the backbone"]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them, block by block as timm cuts them.

        Raises:
            ValueError: timm does not offer that for this model.
        """
        try:
            cast(Any, self.model).set_grad_checkpointing(enable)
        except AssertionError as error:
            raise ValueError(f"timm's {self.name} cannot recompute its activations: {one_line(error)}") from error

    def stem_and_stages(self) -> list[nn.Module]:
        """Return the stem, then each stage, in the order in which `freeze_at` counts them; a ViT's are its blocks."""
        return stem_and_stages(self.model, self._ends)

    @contextmanager
    def at_size(self, height: int, width: int) -> Iterator[None]:
        """Hold a plain transformer's positions as images of one size need them."""
        model = cast(Any, self.model)
        if self.pyramid is None or getattr(model, "pos_embed", None) is None:
            yield
            return
        size, position = model.patch_embed.img_size, model.pos_embed
        model.set_input_size(img_size=(height + -height % _MULTIPLE, width + -width % _MULTIPLE))
        try:
            yield
        finally:
            model.set_input_size(img_size=size)
            model.pos_embed = position

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return a map (B, C, ceil(H / stride), ceil(W / stride)) per output."""
        height, width = plain_sizes(image, 2, 3)
        bottom, right = -height % _MULTIPLE, -width % _MULTIPLE
        if not is_zero(bottom, right):
            image = F.pad(image, (0, right, 0, bottom))
        maps: list[Tensor] = cast(Any, self.model).forward_intermediates(
            image,
            indices=[tap.number for tap in self._used],
            norm=self.pyramid is not None,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        features = dict(zip(self.strides, maps, strict=True)) if self.pyramid is None else self.pyramid(maps[-1])
        if is_zero(bottom, right):
            return features
        return {
            level: x[:, :, : -(-height // self.strides[level]), : -(-width // self.strides[level])]
            for level, x in features.items()
        }
