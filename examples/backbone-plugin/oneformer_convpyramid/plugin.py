"""The hook, and the options that a spec may set; this module is read where torch is not installed."""

from dataclasses import dataclass

from oneformer_spec.hooks import Backbone, hookimpl
from oneformer_spec.schema import option


@dataclass(frozen=True)
class ConvPyramidOptions:
    """A pyramid of strided convolutions."""

    width: int = option(32, minimum=8, help="Channels of the first level, doubled at each further one.", common=True)


@hookimpl
def oneformer_backbones() -> list[Backbone]:
    """Declare the backbone `convpyramid`."""
    package = "oneformer_convpyramid"
    return [Backbone("convpyramid", f"{package}.backbone:ConvPyramid", f"{package}.plugin:ConvPyramidOptions")]
