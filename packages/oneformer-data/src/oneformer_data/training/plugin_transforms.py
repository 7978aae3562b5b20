"""Steps of augmentation that plugins bring: `dataset.augmentation.extra`."""

from __future__ import annotations

from typing import Any

import numpy as np

from oneformer_data.sample import Sample
from oneformer_spec.errors import PluginError
from oneformer_spec.plugins.entries import make, naming_plugin
from oneformer_spec.plugins.option import Entry
from oneformer_spec.segmentation.frame import Size


class PluginTransform:
    """A step of a plugin, called as the built-in ones are; errors name the plugin and the sample.

    A loader process that receives it makes the step anew, so what a plugin's function holds need not be picklable.
    """

    def __init__(self, entry: Entry, *, largest: Size | None) -> None:
        """Make the step that an entry stands for; `largest` is the height and width that samples must fit into.

        Raises:
            SpecError: It is not installed.
            PluginError: It cannot be made.
        """
        self.entry = entry
        self.largest = largest
        self._step = make("transform", entry)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample as the step changes it.

        Raises:
            PluginError: The step fails, or returns something that is not a valid sample.
        """
        with naming_plugin("transform", self.entry.type):
            try:
                changed: Sample = self._step(sample, rng)
            except Exception as error:
                raise PluginError(f"{sample.name}: {type(error).__name__}: {error}") from error
            problem = _problem(changed, self.largest)
            if problem is not None:
                raise PluginError(f"{sample.name}: it returned {problem}")
        return changed

    def __getstate__(self) -> dict[str, Any]:
        """Return the entry without the step."""
        return {"entry": self.entry, "largest": self.largest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the step anew."""
        self.__init__(state["entry"], largest=state["largest"])  # type: ignore[misc]


def _problem(found: Any, largest: Size | None) -> str | None:
    """Return in words why something is not a valid sample, None where it is."""
    if not isinstance(found, Sample):
        return f"{type(found).__name__}, expected a Sample"
    image, ids = found.image, found.id_maps
    if not (image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        return f"an image {image.dtype} {image.shape}, expected uint8 (H, W, 3)"
    if not (ids.dtype == np.int32 and ids.ndim == 3 and ids.shape[1:] == found.size):
        return f"id maps {ids.dtype} {ids.shape}, expected int32 (L, {found.size[0]}, {found.size[1]})"
    if largest is not None and (found.size[0] > largest[0] or found.size[1] > largest[1]):
        height, width = largest
        return f"an image of {found.size[0]} x {found.size[1]}, larger than train_crop_size, {height} x {width}"
    return None
