"""How one field of the spec is declared: default, help and limits stand together, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from typing import Any

METADATA = "option"
NOT_AN_OPTION: Mapping[str, None] = {METADATA: None}
"""Metadata of an attribute that no spec file can set."""


@dataclass(frozen=True)
class Option:
    """What is true of a field beyond its type and default.

    The limits act on numbers, and on the numbers in a list. `also` holds values that are allowed outside of the limits,
    `spellings` other words for the choices, `replaced` what to say about words that other products know.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    also: tuple[int, ...] = ()
    multiple_of: int | None = None
    pattern: str | None = None
    length: int | None = None
    min_length: int = 0
    distinct: bool = False
    ascending: bool = False
    keys: tuple[str, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    common: bool = False
    acts_when_set: bool = False
    from_model: bool = False
    no_effect: str | None = None
    spec_only: bool = False
    secret: bool = False


def option(default: Any, *, help: str, **limits: Any) -> Any:
    """Declare a field of a section; `limits` are the fields of `Option`.

    `common` fields are what `get-spec` prints without `--all`. A field that `acts_when_set` means something else than
    its default when it is left out; a field `from_model` then has the value of the model file that is run. A
    `spec_only` option of a backbone is used up by the spec and not handed to the backbone; `no_effect` says what to use
    instead of a field that does nothing; a `secret` is never shown.
    """
    declared = Option(help=help, **limits)
    metadata = {METADATA: declared}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata, repr=not declared.secret)


def section(kind: type, *, help: str) -> Any:
    """Declare a section of the spec, which is a frozen dataclass itself."""
    return field(default_factory=kind, metadata={METADATA: Option(help=help)})


def is_option(item: Field[Any]) -> bool:
    """Tell whether a dataclass field can be set in a spec file."""
    return item.metadata.get(METADATA, Option(help="")) is not None


def stated(item: Field[Any]) -> Option:
    """Return what was declared of a dataclass field; a plain field has no limits and no help."""
    return item.metadata.get(METADATA) or Option(help="")
