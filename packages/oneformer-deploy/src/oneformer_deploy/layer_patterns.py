"""Choose layers by name patterns, with helpful errors for patterns that match nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.schema.deploy import QuantizeSection

ENTRY_KEYS = ("module_name", "weights")
FLOAT_FORMATS = ("fp32", "none")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that match a pattern with * and ?; case matters.

    >>> matching("encoder.*.weight", ["encoder.0.weight", "decoder.0.weight"])
    ['encoder.0.weight']
    """
    return [name for name in names if fnmatchcase(name, pattern)]


def no_match(pattern: str, names: Iterable[str]) -> str:
    """Return the error text for a pattern that matches no layer, with similar names."""
    available = list(names)
    close = get_close_matches(pattern, available, n=3)
    hint = f"; similar: {', '.join(close)}" if close else f"; the first layer is {available[0]}" if available else ""
    return f"{pattern!r} matches none of the {len(available)} layers{hint}"


def layers_to_quantize(kinds: Mapping[str, str], options: QuantizeSection) -> list[str]:
    """Return the names of the layers to quantize: those in `quantize.layers` (all if empty), without `skip_names`.

    Args:
        kinds: The kind, such as MatMul, of every layer that can be quantized, by its name. A pattern may match names
            or, if it matches no name, kinds.
        options: The section `quantize` of the spec.

    Raises:
        SpecError: An entry is malformed or matches no layer.
    """
    errors: list[str] = []

    def matches(pattern: str, key: str) -> list[str]:
        names = matching(pattern, kinds) or [name for name, kind in kinds.items() if fnmatchcase(kind, pattern)]
        if not names:
            errors.append(f"{key}: {no_match(pattern, kinds)}")
        return names

    is_chosen = dict.fromkeys(kinds, not options.layers)
    for index, entry in enumerate(options.layers):
        key = f"quantize.layers[{index}]"
        if error := _entry_error(entry):
            errors.append(f"{key}: {error}")
        else:
            stays_float = _weight_format(entry) in FLOAT_FORMATS
            is_chosen |= dict.fromkeys(matches(entry["module_name"], f"{key}.module_name"), not stays_float)
    for index, pattern in enumerate(options.skip_names or ()):
        is_chosen |= dict.fromkeys(matches(pattern, f"quantize.skip_names[{index}]"), False)
    if errors:
        raise SpecError(errors)
    return [name for name, chosen in is_chosen.items() if chosen]


def _weight_format(entry: Mapping[str, Any]) -> str:
    weights = entry.get("weights") or {}
    return str(weights.get("dtype", "int8")).lower() if isinstance(weights, Mapping) else str(weights)


def _entry_error(entry: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an entry that should be {module_name: pattern, weights: {dtype: int8 or fp32}}."""
    if unknown := [key for key in entry if key not in ENTRY_KEYS]:
        return f"no such key: {', '.join(map(str, unknown))}; available: {', '.join(ENTRY_KEYS)}"
    if not isinstance(entry.get("module_name"), str):
        return "module_name is missing: set it to a layer's name or a pattern with * and ?"
    if _weight_format(entry) not in ("int8", *FLOAT_FORMATS):
        return f"weights.dtype: found {_weight_format(entry)!r}, expected int8, or fp32 to leave the layer as it is"
    return None
