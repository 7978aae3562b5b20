"""How one field of the spec is declared: default, help and limits stand together, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from typing import Any

from oneformer_spec.plugins.option_types import InstalledOptions

METADATA = "option"
_OPEN = "open"
NOT_AN_OPTION: Mapping[str, None] = {METADATA: None}
"""Metadata of an attribute that no spec file can set."""


@dataclass(frozen=True)
class Option:
    """What is true of a field beyond its type and default.

    The limits act on numbers, and on the numbers in a list. `also` holds values that are allowed outside of the limits,
    `spellings` other words for the choices, `replaced` what to say about words that other products know. `names` is a
    kind of declaration: the field takes the names of those that are installed, beside its `choices`; with `class_path`
    it takes "module:Class" too. A field of entries holds a list of them (see `oneformer_spec.plugins.entries`).
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
    names: str | None = None
    class_path: bool = False


@dataclass(frozen=True)
class Entry:
    """One entry of a list such as `train.losses`: a registered name or a class path, and its options as written."""

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def written(self) -> str | dict[str, Any]:
        """Return it as a spec holds it: the name alone where there are no options."""
        return {"type": self.type, **self.options} if self.options else self.type


def entry_of(value: str | Mapping[str, Any]) -> Entry:
    """Return an entry from what a spec holds: {type: NAME, option: value, ...}, or the name alone."""
    if isinstance(value, str):
        return Entry(value)
    return Entry(value["type"], {key: item for key, item in value.items() if key != "type"})


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


def open_section(kind: str, *, help: str = "") -> Any:
    """Declare the sections of installed plugins of a kind, such as "runtime", by their names.

    With a `help` it is a section of its own, which holds them; without, they stand beside the fields of the section
    that the attribute belongs to.
    """
    declared = Option(help=help) if help else None
    return field(default_factory=lambda: InstalledOptions(kind), metadata={METADATA: declared, _OPEN: kind})


def opened(item: Field[Any]) -> str | None:
    """Return the kind of declaration whose sections a dataclass field holds, if it does."""
    kind: str | None = item.metadata.get(_OPEN)
    return kind


def is_option(item: Field[Any]) -> bool:
    """Whether a dataclass field can be set in a spec file."""
    return item.metadata.get(METADATA, Option(help="")) is not None


def stated(item: Field[Any]) -> Option:
    """Return what was declared of a dataclass field; a plain field has no limits and no help."""
    return item.metadata.get(METADATA) or Option(help="")
