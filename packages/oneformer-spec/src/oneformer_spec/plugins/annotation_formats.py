"""Which of the installed annotation formats some annotations are in, by the spec alone; no file is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from oneformer_spec.errors import SpecError
from oneformer_spec.hooks import Dataset
from oneformer_spec.plugins.builtins import oneformer_datasets
from oneformer_spec.plugins.entries import is_class_path
from oneformer_spec.plugins.registry import declarations
from oneformer_spec.plugins.task_declarations import with_plugin_tasks
from oneformer_spec.tasks import TASKS


def annotation_formats() -> Mapping[str, Dataset]:
    """Return the annotation formats that are built in or installed, by name."""
    return dict(sorted(declarations("dataset").items()))


def annotation_format(annotations: str, *, type: str | None = None, panoptic: bool, section: str) -> Dataset:
    """Return the format of an annotation file, folder, pattern or URL: the one named `type`, else by what it is called.

    Args:
        annotations: One entry of `dataset.<split>.annotations`.
        type: What `dataset.<split>.type` says: a name, or the path of a class, `module:Class`.
        panoptic: Whether the split names a folder of PNG maps for these annotations.
        section: The split's place in the spec, such as `dataset.val`, for errors.

    Raises:
        SpecError: There is no such format, or none or several would be recognised by that name.
    """
    known = annotation_formats()
    if type is not None:
        if type not in known and not is_class_path(type):
            raise SpecError(f"{section}.type: {type!r} is not installed; available: {', '.join(known)}")
        return known.get(type) or Dataset(type, type, TASKS, places=("file", "folder", "pattern", "url"))
    name = file_name(annotations)
    fitting = [declared for declared in known.values() if name in declared.names]
    if not fitting:
        suffix = PurePath(name).suffix.lower()
        fitting = [declared for declared in known.values() if suffix in declared.suffixes]
    fitting = [declared for declared in fitting if declared.panoptic == panoptic] or fitting
    ours = {declared.name for declared in oneformer_datasets()}
    fitting = [declared for declared in fitting if declared.name in ours] or fitting  # a plugin changes no other spec
    if len(fitting) > 1:
        names = " and ".join(declared.name for declared in fitting)
        raise SpecError(f"{section}.type: is not set, and {annotations} fits {names}; name one of them")
    if not fitting:
        raise SpecError(
            f"{section}.type: is not set, and the name of {annotations} does not show the format; "
            f"recognised are {_signs(list(known.values()), section)}"
        )
    return fitting[0]


def formats_for(task: str) -> str:
    """Return the names of the formats whose annotations can have targets for a task, in words."""
    names = [declared.name for declared in annotation_formats().values() if task in with_plugin_tasks(declared.tasks)]
    return ", ".join(names) or "none that is installed"


def is_url(name: str) -> bool:
    """Return whether a name begins with a scheme such as `https:`, which has two letters or more."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", name) is not None


def file_name(annotations: str) -> str:
    """Return the last part of a path or URL; what follows the path of a URL does not count."""
    return PurePath(re.split("[?#]", annotations)[0] if is_url(annotations) else annotations).name


def _signs(known: Sequence[Dataset], section: str) -> str:
    """Return in words what each format is recognised by."""
    found = []
    for declared in known:
        if signs := (*declared.suffixes, *declared.names):
            condition = f" with {section}.panoptic" if declared.panoptic else ""
            found.append(f"{' and '.join(signs)}{condition} as {declared.name}")
    return ", ".join(found)
