"""Layers chosen by patterns: which are quantized, which stay, and what is said of a pattern that fits none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.schema.deploy import QuantizeSection

KEYS = ("module_name", "weights")
STAYING = ("fp32", "none")


def fitting(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern with * and ? fits, case and all."""
    return [name for name in names if fnmatchcase(name, pattern)]


def unknown(pattern: str, names: Iterable[str]) -> str:
    """Return what is wrong with a pattern that fits nothing, with names that are close."""
    known = list(names)
    close = get_close_matches(pattern, known, n=3)
    hint = f"; close are {', '.join(close)}" if close else f"; the first is {known[0]}" if known else ""
    return f"{pattern!r} fits none of the {len(known)} layers{hint}"


def layers_to_quantize(kinds: Mapping[str, str], options: QuantizeSection) -> list[str]:
    """Return the layers that `quantize.layers` asks for, all without it, less those in `skip_names`.

    Args:
        kinds: Every layer that can be quantized, with its kind, such as MatMul; patterns may name either.
        options: The section of the spec.

    Raises:
        SpecError: An entry is malformed or fits no layer.
    """
    problems: list[str] = []

    def found(pattern: str, place: str) -> list[str]:
        names = fitting(pattern, kinds) or [name for name, kind in kinds.items() if fnmatchcase(kind, pattern)]
        if not names:
            problems.append(f"{place}: {unknown(pattern, kinds)}")
        return names

    chosen = dict.fromkeys(kinds, not options.layers)
    for index, entry in enumerate(options.layers):
        place = f"quantize.layers[{index}]"
        if problem := _malformed(entry):
            problems.append(f"{place}: {problem}")
        else:
            stays = _format(entry) in STAYING
            chosen |= dict.fromkeys(found(entry["module_name"], f"{place}.module_name"), not stays)
    for index, pattern in enumerate(options.skip_names or ()):
        chosen |= dict.fromkeys(found(pattern, f"quantize.skip_names[{index}]"), False)
    if problems:
        raise SpecError(problems)
    return [name for name, wanted in chosen.items() if wanted]


def _format(entry: Mapping[str, Any]) -> str:
    weights = entry.get("weights") or {}
    return str(weights.get("dtype", "int8")).lower() if isinstance(weights, Mapping) else str(weights)


def _malformed(entry: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an entry: it is {module_name: pattern, weights: {dtype: int8 or fp32}}."""
    if other := [key for key in entry if key not in KEYS]:
        return f"no such key: {', '.join(map(str, other))}; there are {', '.join(KEYS)}"
    if not isinstance(entry.get("module_name"), str):
        return "module_name is missing: the layer's name, or a pattern with * and ?"
    if _format(entry) not in ("int8", *STAYING):
        return f"weights.dtype: found {_format(entry)!r}, expected int8, or fp32 for a layer that stays"
    return None
