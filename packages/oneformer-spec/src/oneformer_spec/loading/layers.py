"""What the user wrote, layer by layer: every spec file is one, all overrides together are the last."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.dotted import join
from oneformer_spec.loading.problems import Place, Problems, shown
from oneformer_spec.loading.yaml_text import MAX_CHARACTERS, Path, read_json, read_yaml


@dataclass
class Layer:
    """Nested data as the user wrote it, where keys and values stand, and which alias stood for a canonical path."""

    data: dict[str, Any] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)

    def place(self, path: Path) -> Place | None:
        """Return where a value stands, or the first thing in it that stands anywhere, or what surrounds it."""
        if path in self.values:
            return self.values[path]
        inside = [place for other, place in self.values.items() if other[: len(path)] == path]
        if inside:
            return min(inside)
        for end in range(len(path) - 1, -1, -1):
            if path[:end] in self.values:
                return self.values[path[:end]]
        return None

    def key_place(self, path: Path) -> Place | None:
        """Return where a key stands."""
        return self.keys.get(path) or self.place(path)

    def name(self, path: str) -> str:
        """Return a canonical path with the alias that the user wrote, if any."""
        return f"{self.written[path]} ({path})" if path in self.written else path

    def move(self, old: Path, new: Path) -> None:
        """Let the places below `old` hold below `new` too."""
        for places in (self.values, self.keys):
            places |= {(*new, *path[len(old) :]): places[path] for path in list(places) if path[: len(old)] == old}


def merge(lower: Layer, upper: Layer) -> None:
    """Write the upper layer over the lower one: mappings are joined, everything else is replaced."""
    join(lower.data, upper.data)
    lower.values |= upper.values
    lower.keys |= upper.keys
    lower.written |= upper.written


def read_file(file: FilePath, layer: int, problems: Problems) -> Layer:
    """Read a YAML or JSON file as one layer.

    Raises:
        SpecError: The file cannot be read at all.
    """
    read = read_json if file.suffix.lower() == ".json" else read_yaml
    document = read(read_text(file), str(file), layer)
    for place, message in document.problems:
        problems.add(message, place)
    if not isinstance(document.data, dict | None):
        problems.add(f"a spec holds sections, found {shown(document.data)}", document.values.get(()))
        return Layer()
    document.values.setdefault((), Place(layer, 1, 1, f"{file}:1:1"))
    return Layer(document.data or {}, document.values, document.keys)


def read_text(file: FilePath) -> str:
    """Return a file's text.

    Raises:
        SpecError: It is missing, too long or no UTF-8.
    """
    try:
        if file.is_file() and file.stat().st_size > 4 * MAX_CHARACTERS:
            raise SpecError(f"{file}: longer than {MAX_CHARACTERS} characters, which no spec is")
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"{file}: does not exist") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{file}: is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
