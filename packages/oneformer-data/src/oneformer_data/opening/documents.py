"""JSON files of annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from oneformer_spec.errors import DataError
from oneformer_spec.files.images import Content


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: The file is missing, unreadable or not JSON; the message has its line and column.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    return parse_json(Content(str(path), data))


def parse_json(content: Content) -> Any:
    """Return what JSON in memory holds.

    Raises:
        DataError: It is not JSON; the message has its line and column.
    """
    path = content.name
    try:
        return json.loads(content.data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON that can be read: {error}") from None


def listed(document: object, key: str, path: str | Path) -> list[dict[str, Any]]:
    """Return the list of objects under a key of a document's top object.

    Raises:
        DataError: The document is no object, has no such list, or the list holds something else.
    """
    rows = document.get(key) if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{path}: has no list {key!r} at its top")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{path}: {key}[{number}]: is no object")
    return rows


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a JSON value is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)
