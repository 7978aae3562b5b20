"""This project's packages: what each brings, and whether the installed ones meet the requirements of plugins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

OURS = frozenset(f"oneformer-{part}" for part in ("spec", "data", "model", "train", "deploy", "cli"))
"""The distributions of this project."""

# Which distribution brings a verb, a runtime or a suffix, so that its absence can name the cure.
VERB_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "train": "oneformer-train",
        "evaluate": "oneformer-data",
        "score": "oneformer-data",
        "dataset": "oneformer-data",
        "inference": "oneformer-deploy",
        "info": "oneformer-deploy",
        "gen_trt_engine": "oneformer-deploy[tensorrt]",
        "quantize": "oneformer-deploy[quantize]",
        "export": "oneformer-model[onnx]",
        "convert": "oneformer-model",
        "model-info": "oneformer-model",
    }
)
RUNTIME_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "torch": "oneformer-model",
        "onnxruntime": "oneformer-deploy",
        "onnxruntime-tensorrt": "oneformer-deploy",
        "openvino": "oneformer-deploy[openvino]",
        "tensorrt": "oneformer-deploy[tensorrt]",
    }
)
QUANTIZER_PACKAGES: Mapping[str, str] = MappingProxyType(
    {"onnxruntime": "oneformer-deploy[quantize]", "torchao": "oneformer-model[quantize]"}
)
SUFFIX_PACKAGES: Mapping[str, str] = MappingProxyType(
    {".pth": "oneformer-model", ".onnx": "oneformer-deploy", ".engine": "oneformer-deploy[tensorrt]"}
)

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;()]*)\)?\s*(;.*)?")
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|~=|>|<)\s*([0-9][0-9.]*)")
Release = tuple[int, ...]
_HOLDS: Mapping[str, Callable[[Release, Release], bool]] = MappingProxyType(
    {
        ">=": lambda found, wanted: found >= wanted,
        "<=": lambda found, wanted: found <= wanted,
        ">": lambda found, wanted: found > wanted,
        "<": lambda found, wanted: found < wanted,
        "==": lambda found, wanted: found == wanted,
        "!=": lambda found, wanted: found != wanted,
    }
)


def normalised(distribution: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def requirements_on_us(requires: Iterable[str] | None) -> tuple[str, ...]:
    """Return the requirements on this project's packages, such as "oneformer-spec>=0.2,<0.3", extras left out."""
    found = []
    for line in requires or ():
        match = _REQUIREMENT.fullmatch(line)
        if match and normalised(match[1]) in OURS and "extra" not in (match[3] or ""):
            found.append(f"{normalised(match[1])}{match[2].replace(' ', '')}")
    return tuple(found)


def unmet(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return in words which requirements the installed packages do not meet."""
    found = []
    for requirement in requirements:
        match = _REQUIREMENT.fullmatch(requirement)
        assert match is not None  # `requirements_on_us` made it
        try:
            installed = version(match[1])
        except PackageNotFoundError:
            found.append(f"it requires {requirement}, which is not installed: python -m pip install '{requirement}'")
            continue
        if not _meets(installed, match[2]):
            found.append(
                f"it requires {requirement}, and {installed} is installed: python -m pip install '{requirement}'"
            )
    return tuple(found)


def _meets(installed: str, clauses: str) -> bool:
    found = _release(installed)
    for operator, text in _CLAUSE.findall(clauses):
        wanted = _release(text)
        length = max(len(found), len(wanted))
        padded, bound = (value + (0,) * (length - len(value)) for value in (found, wanted))
        parts = len(wanted) - (operator == "~=")
        if operator == "~=" or (operator == "==" and text.endswith(".")):  # 0.2.* was cut to "0.2."
            if padded < bound or padded[:parts] != bound[:parts]:
                return False
        elif not _HOLDS[operator](padded, bound):
            return False
    return True


def _release(text: str) -> Release:
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()
