"""Any model of timm as a feature extractor, EfficientViT among them.

A model with maps of several strides hands out those of 4, 8, 16 and 32 pixels. A model whose maps all have one stride,
a plain vision transformer, gets a simple feature pyramid on its last map, which its final norm has normalised.

Images are filled with zeros at the right and at the bottom to multiples of 32 pixels, and the maps are cut back.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import timm
import torch
import torch.nn.functional as F
from timm.models import load_state_dict
from torch import Tensor, nn

from oneformer_model.backbones.pyramid import WIDTH, SimpleFeaturePyramid
from oneformer_spec.errors import CheckpointError

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
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
        height, width = image.shape[2:]
        bottom, right = -height % _MULTIPLE, -width % _MULTIPLE
        image = F.pad(image, (0, right, 0, bottom))
        maps: list[Tensor] = cast(Any, self.model).forward_intermediates(
            image,
            indices=[tap.number for tap in self._used],
            norm=self.pyramid is not None,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        features = dict(zip(self.strides, maps, strict=True)) if self.pyramid is None else self.pyramid(maps[-1])
        return {
            level: x[:, :, : (height + stride - 1) // stride, : (width + stride - 1) // stride]
            for (level, x), stride in zip(features.items(), self.strides.values(), strict=True)
        }


_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_OURS = (
    *("features_only", "out_indices", "in_chans", "num_classes", "cache_dir"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
)


class Tap(NamedTuple):
    """A place where a model hands out a map; `module` is the last one that the map has passed."""

    number: int
    channels: int
    stride: int
    module: str


class Extractor(NamedTuple):
    """A model without its classifier, the taps that are used, and those that end its stages.

    A model whose maps all have one stride, a plain vision transformer, is used at its last one; each block is a stage.
    """

    model: nn.Module
    used: tuple[Tap, ...]
    ends: tuple[Tap, ...]

    @property
    def is_plain(self) -> bool:
        """Whether all maps have one stride."""
        return len({tap.stride for tap in self.ends}) == 1


def make_extractor(name: str, options: Mapping[str, Any], **weights: Any) -> Extractor:
    """Create a model with fresh weights, or with those that timm's keywords `weights` stand for.

    Raises:
        ValueError: timm has no such model or refuses its options, or its maps have other strides than are needed.
    """
    model = _create(name, options, weights)
    infos: Sequence[Mapping[str, Any]] = model.feature_info
    taps = [Tap(index, info["num_chs"], info["reduction"], info["module"]) for index, info in enumerate(infos)]
    by_stride = {tap.stride: tap for tap in taps}  # the last one of each
    if len(by_stride) == 1:
        last = taps[-1]._replace(
            channels=infos[-1].get("num_chs_norm", taps[-1].channels),  # where the final norm is a projection too
            stride=_round_stride(name, model, taps[-1].stride),
        )
        extractor = Extractor(model, (last,), tuple(taps))
    else:
        used = tuple(by_stride[stride] for stride in STRIDES.values() if stride in by_stride)
        if not used:
            found = ", ".join(map(str, by_stride))
            raise ValueError(f"name: {name} has maps of strides {found}, expected some of 4, 8, 16, 32")
        extractor = Extractor(model, used, used)
    indices = [tap.number for tap in extractor.used]
    model.prune_intermediate_layers(indices, prune_norm=not extractor.is_plain, prune_head=True)
    return extractor


def _create(name: str, options: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
    """Create a model that takes images of any size, where it knows how to."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), 3)
        raise ValueError(f"name: timm has no model {name!r}" + (f"; did you mean {', '.join(close)}?" if close else ""))
    if reserved := [key for key in options if key in _OURS]:
        raise ValueError(f"options: {', '.join(reserved)}: set by the backbone itself")
    try:
        try:
            return timm.create_model(name, **{"dynamic_img_size": True, **options}, **weights)
        except TypeError:  # no plain transformer
            return timm.create_model(name, **options, **weights)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        raise ValueError(f"timm cannot make {name} with options {dict(options)}: {one_line(error)}") from error


def _round_stride(name: str, model: Any, stride: int) -> int:
    """Return the stride if a power of two, else turn patches into patches of the nearest one: 14 pixels become 16.

    timm resamples the patch embedding so that a patch keeps its embedding when it is scaled alike (FlexiViT, Beyer et
    al., 2023); positions stay one per patch.
    """
    rounded = 2 ** round(math.log2(stride))
    if rounded != stride:
        if not hasattr(model, "set_input_size"):
            raise ValueError(f"name: {name} has maps of stride {stride}, expected a power of two")
        rows, columns = model.patch_embed.grid_size
        model.set_input_size(img_size=(rows * rounded, columns * rounded), patch_size=(rounded, rounded))
    return rounded


def trained_state(name: str, options: Mapping[str, Any], path: str | None) -> dict[str, Tensor]:
    """Return the tensors of an extractor as a file holds them, or as timm's hub does where `path` is None.

    The file has timm's names of tensors, or those that timm converts for this model; a classifier in it is left out.

    Raises:
        CheckpointError: The file cannot be read or does not fit the model, or the hub has no weights.
    """
    overlay: dict[str, Any] = {}
    if path is not None:
        state = _read(path)
        overlay = {"state_dict": state, "num_classes": _num_classes(name, state)}
    try:
        return make_extractor(name, options, pretrained=True, pretrained_cfg_overlay=overlay).model.state_dict()
    except Exception as error:  # the hub's client has errors of many kinds
        where = f"{path}: its tensors do not fit timm's {name}" if path else f"timm's hub gave no weights of {name}"
        raise CheckpointError(f"{where}: {one_line(error)}") from error


def _read(path: str) -> dict[str, Tensor]:
    """Return a file's tensors; nothing in it is executed."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise CheckpointError(f"{path}: expected a file that ends with {', '.join(_SUFFIXES)}")
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: does not exist, or is no file")
    try:
        state = cast(Mapping[str, object], load_state_dict(path, weights_only=True))
    except Exception as error:  # torch, pickle, zipfile and safetensors have their own
        raise CheckpointError(f"{path}: cannot be read as tensors: {one_line(error)}") from error
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if len(tensors) < len(state):
        others = ", ".join(key for key in state if key not in tensors)
        raise CheckpointError(f"{path}: expected tensors by name, found something else under {others}")
    return tensors


def _num_classes(name: str, state: Mapping[str, Tensor]) -> int:
    """Return how many classes the classifier in a file tells apart, 0 without one."""
    classifier: Any = getattr(timm.get_pretrained_cfg(name), "classifier", None)  # a name, several, or None
    first = classifier[0] if isinstance(classifier, tuple | list) else classifier
    weight = state.get(f"{first}.weight")
    return 0 if weight is None else len(weight)


def stem_and_stages(model: nn.Module, ends: Sequence[Tap]) -> list[nn.Module]:
    """Return the stem, then each stage, as views on a model's modules; loose parameters belong to the stem.

    Raises:
        ValueError: The model does not name the modules that end its stages.
    """
    try:
        last = [model.get_submodule(tap.module) for tap in ends]
    except AttributeError as error:
        raise ValueError(f"freeze_at: timm's {type(model).__name__} does not tell its stages; set 0") from error
    units, loose = _units(model, set(last))
    cuts = [units.index(module) for module in last]
    bounds = [0, cuts[0], *(cut + 1 for cut in cuts)]
    parts = [nn.ModuleList(units[begin:end]) for begin, end in pairwise(bounds)]
    for index, parameter in enumerate(loose):
        parts[0].register_parameter(f"loose{index}", parameter)
    return list(parts)


def _units(module: nn.Module, ends: set[nn.Module]) -> tuple[list[nn.Module], list[nn.Parameter]]:
    """Return the largest modules, in order, that lie in one stage, and the parameters beside them."""
    units, loose = [], list(module.parameters(recurse=False))
    for child in module.children():
        if child in ends or ends.isdisjoint(child.modules()):
            units.append(child)
        else:
            inner_units, inner_loose = _units(child, ends)
            units += inner_units
            loose += inner_loose
    return units, loose


def one_line(error: BaseException) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
