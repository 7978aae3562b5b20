"""The names of plugins in a spec, and the options of entries such as those of `train.losses`."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from typing import Any

from oneformer_spec.errors import OneFormerError
from oneformer_spec.loading.dotted import get, has, put, remove
from oneformer_spec.loading.layers import Layer
from oneformer_spec.loading.problems import Problems, shown
from oneformer_spec.loading.validation import check_options, dotted, mismatch
from oneformer_spec.loading.yaml_text import Path
from oneformer_spec.plugins.entries import GIVEN, SHARED, is_class_path, part_name, signature_of, split_options
from oneformer_spec.plugins.option_tree import Leaf, section_tree
from oneformer_spec.plugins.option_types import option_types
from oneformer_spec.plugins.registry import owner, registry, resolve
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.tree import leaves, plain

# Which of our tasks read a field that names a plugin; the others run where the plugin is not installed.
READERS = {
    "model.backbone.type": ("train",),
    "dataset.train.type": ("train",),
    "dataset.val.type": ("train", "evaluate"),
    "dataset.test.type": ("evaluate",),
    "dataset.augmentation.extra": ("train",),
    "train.losses": ("train",),
    "train.callbacks": ("train",),
    "train.loggers": ("train",),
    "quantize.backend": ("quantize",),
    "evaluate.task": ("evaluate",),
    "inference.mode": ("inference",),
    "dataset.task_prob_train": ("train",),
    "dataset.task_prob_val": (),
}
_TASKS = ("train", "evaluate", "inference", "export", "gen_trt_engine", "quantize")


def leave_out_unread_keys(layer: Layer, task: str | None, notes: list[str]) -> None:
    """Leave out mappings that have names which are not installed, with a note, where the task does not read them."""
    for leaf in leaves().values():
        option = leaf.option
        if not (option.keys and option.names and _is_unread(leaf.path, task) and has(layer.data, leaf.path)):
            continue
        value = get(layer.data, leaf.path)
        missing = [key for key in value if key not in option.keys] if isinstance(value, dict) else []
        notes += [f"{leaf.path}: no {option.names} {key!r} is installed; {task} does not use it" for key in missing]
        if missing:
            remove(layer.data, leaf.path)


def used_plugins(spec: Spec) -> dict[str, str]:
    """Return the plugins that training a spec uses: kind and name of what it names -> "distribution==version"."""
    data, found = plain(spec), {}
    for leaf in leaves().values():
        kind = leaf.option.names
        if kind is None or "train" not in READERS.get(leaf.path, ()):
            continue
        for name in _names(get(data, leaf.path)):
            if (plugin := owner(kind, name)) is not None:
                found[f"{kind} {name}"] = f"{plugin.distribution}=={plugin.version}"
    return found


def check_plugin_names(layer: Layer, task: str | None, problems: Problems, notes: list[str]) -> set[str]:
    """Report names that are not installed and options that do not fit; return the paths of the fields with problems.

    A name that is not installed is a note where the task does not read the field.
    """
    broken: set[str] = set()
    for leaf in leaves().values():
        kind = leaf.names
        if kind is None or not has(layer.data, leaf.path) or get(layer.data, leaf.path) is None:
            continue
        before = len(problems)
        value, reader = get(layer.data, leaf.path), _Reader(layer, leaf, kind, task, problems, notes)
        if leaf.is_entries:
            put(layer.data, leaf.path, [reader.entry(number, item) for number, item in enumerate(value)])
        else:
            reader.check_name(value, tuple(leaf.path.split(".")))
        if len(problems) > before:
            broken.add(leaf.path)
    for path in broken:
        remove(layer.data, path)
    return broken


@dataclass(frozen=True)
class _Reader:
    """Checks what one field says, and where to put what is wrong with it."""

    layer: Layer
    leaf: Leaf
    kind: str
    task: str | None
    problems: Problems
    notes: list[str]

    def check_name(self, name: str, at: Path) -> bool:
        """Report a name that cannot be used here; return whether it is a registered one that can."""
        place = self.layer.place(at)
        if is_class_path(name):
            if not (self.leaf.is_entries or self.leaf.option.class_path):
                self.problems.add(f"{dotted(at)}: {mismatch(self.leaf, name)}", place)
            return False
        if reason := option_types(self.kind).failures.get(name):
            self.problems.add(f"{dotted(at)}: {part_name(self.kind, name)} cannot be used: {reason}", place)
            return False
        if name in self.leaf.option.choices:
            return True
        if (self.kind, name) in registry().clashes:
            self.problems.add(f"{dotted(at)}: {registry().clashes[self.kind, name]}", place)
            return False
        if _is_unread(self.leaf.path, self.task):
            self.notes.append(f"{dotted(at)}: no {self.kind} {name!r} is installed; {self.task} does not use it")
        else:
            self.problems.add(f"{self.layer.name(dotted(at))}: {self._unknown(name)}", place)
        return False

    def entry(self, number: int, item: Any) -> Any:
        """Check one entry of a list and return it, its values respelled."""
        at: Path = (*self.leaf.path.split("."), number)
        written = {"type": item} if isinstance(item, str) else item
        if not (isinstance(written, dict) and isinstance(written.get("type"), str)):
            message = f"{dotted(at)}: found {shown(item)}, expected a name, or {{type: NAME, option: value, ...}}"
            self.problems.add(message, self.layer.place(at))
            return item
        name = written["type"]
        shared, options = split_options(self.kind, {key: value for key, value in written.items() if key != "type"})
        if shared:
            tree = section_tree(SHARED[self.kind], dotted(at))
            shared = check_options(self.layer, tree, shared, at, self.problems, self.notes)
        if is_class_path(name):
            self._check_keywords(name, options, at)
        elif self.check_name(name, at if isinstance(item, str) else (*at, "type")):
            options = self._checked(name, options, at)
        return {"type": name, **shared, **options} if shared or options else name

    def _checked(self, name: str, options: dict[str, Any], at: Path) -> dict[str, Any]:
        kind = option_types(self.kind).kinds.get(name, _NoOptions)
        section = section_tree(kind, dotted(at))
        if not section.children:
            for key in options:
                message = f"{dotted((*at, key))}: unknown field; the {self.kind} {name!r} has no options"
                self.problems.add(message, self.layer.key_place((*at, key)))
            return {}
        return check_options(self.layer, section, options, at, self.problems, self.notes)

    def _check_keywords(self, name: str, options: dict[str, Any], at: Path) -> None:
        """Compare options with the signature of a class path; what cannot be imported here is not checked."""
        try:
            signature = signature_of(resolve(name))
        except OneFormerError:
            return
        if signature is None:
            return
        known, open_ended = _keywords(signature)
        for key in options:
            if key not in known and not open_ended:
                close = difflib.get_close_matches(key, known, 1)
                guess = f"did you mean {close[0]}?" if close else f"{name} takes {', '.join(known) or 'none'}"
                self.problems.add(f"{dotted((*at, key))}: unknown keyword; {guess}", self.layer.key_place((*at, key)))
        given = {*options, *GIVEN.get(self.kind, ())}
        missing = [key for key, needed in known.items() if needed and key not in given]
        if missing:
            self.problems.add(f"{dotted(at)}: {name} needs {', '.join(missing)}", self.layer.place(at))

    def _unknown(self, name: str) -> str:
        if not self.leaf.is_entries:
            return mismatch(self.leaf, name)
        close = difflib.get_close_matches(name, self.leaf.option.choices, 1)
        guess = f"; did you mean {close[0]}?" if close else ""
        available = ", ".join(self.leaf.option.choices) or "none"
        expected = f"{available}, or a class path my_package.module:Class"
        return f"no {self.kind} {name!r} is installed; available: {expected}{guess}"


def _is_unread(path: str, task: str | None) -> bool:
    return task in _TASKS and task not in READERS.get(path, _TASKS)


@dataclass(frozen=True)
class _NoOptions:
    """The options of a declaration without options."""


def _keywords(signature: inspect.Signature) -> tuple[dict[str, bool], bool]:
    """Return which keywords a callable takes, whether each is needed, and whether it takes any other."""
    kinds = inspect.Parameter
    taken = {
        name: parameter.default is kinds.empty
        for name, parameter in signature.parameters.items()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    return taken, any(parameter.kind is kinds.VAR_KEYWORD for parameter in signature.parameters.values())


def _names(value: Any) -> list[str]:
    """Return the names that the plain value of a field holds: a name, entries of a list, keys with a probability."""
    if isinstance(value, dict):
        return [name for name, probability in value.items() if probability]
    entries = value if isinstance(value, list) else [value]
    return [entry["type"] if isinstance(entry, dict) else entry for entry in entries if entry is not None]
