"""Open a model file with the runtime, device and settings given in the spec.

Values that the user set override those stored in the model file. All others come from the model file, because the model
was trained with them; so a deployed model needs no spec file.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from oneformer_spec.commands.exit import note
from oneformer_spec.errors import PluginError, SpecError, UsageError
from oneformer_spec.hooks import Runtime
from oneformer_spec.loading.task_files import num_gpus_here
from oneformer_spec.plugins.entries import naming_plugin, section_keywords
from oneformer_spec.plugins.registry import registry, resolve
from oneformer_spec.plugins.task_declarations import ALL, declared_task
from oneformer_spec.processes.threads import thread_share
from oneformer_spec.processes.world import ALONE, World
from oneformer_spec.schema import EvaluateSection, InferenceSection, Spec
from oneformer_spec.schema.tree import leaves
from oneformer_spec.segmentation.decode import Thresholds
from oneformer_spec.segmentation.frame import SizeRule
from oneformer_spec.segmentation.manifest import image_size_rule, size_rule
from oneformer_spec.segmentation.segmenter import Segmenter


def model_path(section: EvaluateSection | InferenceSection, name: str) -> str:
    """Return the model file given in a task's section.

    Raises:
        SpecError: Neither or both of `checkpoint` and `trt_engine` are set.
    """
    if bool(section.checkpoint) == bool(section.trt_engine):
        state = "both are set" if section.checkpoint else "neither is set"
        raise SpecError(f"{name}.checkpoint, {name}.trt_engine: exactly one is needed, {state}")
    return section.checkpoint or section.trt_engine


def open_model(path: str, spec: Spec, section: EvaluateSection | InferenceSection, world: World = ALONE) -> Segmenter:
    """Open a model file with the runtime, device and precision given in `section`, and the spec's thresholds.

    If several processes share a machine, each uses its own device and its part of the cores.

    Raises:
        UsageError: No installed runtime reads the file, or the runtime does not support the precision.
        CheckpointError: The file cannot be read.
    """
    runtime = runtime_of(path, section)
    options: dict[str, Any] = {"num_threads": _threads(section, world), "key": spec.encryption_key}
    if len(runtime.precisions) > 1:
        options["precision"] = section.precision
    with naming_plugin("runtime", runtime.name):
        options |= section_keywords("runtime", runtime.name, spec.runtimes)
        segmenter = resolve(runtime.target)(path, _device(section, world), **options)
        if not isinstance(segmenter, Segmenter):
            raise PluginError(f"{runtime.target}: must return a Segmenter, found {segmenter!r}")
    return with_thresholds(segmenter, spec)


def runtime_of(path: str, section: EvaluateSection | InferenceSection) -> Runtime:
    """Return the runtime that a section selects for a model file, which need not exist yet.

    Raises:
        UsageError: No installed runtime reads the file, or the runtime does not support the precision.
    """
    runtime = registry().runtime(path, section.runtime)
    if section.precision not in runtime.precisions:
        available = ", ".join(runtime.precisions)
        raise UsageError(
            f"{path}: the runtime {runtime.name} does not support {section.precision}; available: {available}"
        )
    return runtime


def _device(section: EvaluateSection | InferenceSection, world: World) -> str:
    """Return the name of this process's device; on a host without a GPU, several processes all use the CPU."""
    number = section.gpu_ids[world.local_rank]
    on_cpus = world.local_size > 1 and number < world.local_size and num_gpus_here() == 0
    return "auto" if number == 0 or on_cpus else f"cuda:{number}"


def _threads(section: EvaluateSection | InferenceSection, world: World) -> int | None:
    """Return the number of CPU threads for this process; None leaves it to the runtime."""
    if section.num_threads is not None:
        return section.num_threads
    return thread_share(world.local_size) if world.local_size > 1 else None


def with_thresholds(segmenter: Segmenter, spec: Spec) -> Segmenter:
    """Return the segmenter with the thresholds that the user set; others stay as stored in the model file."""
    test, known = spec.model.test, segmenter.manifest.thresholds

    def written(field: str) -> bool:
        return f"model.test.{field}" in spec.written

    thresholds = Thresholds(
        object_mask=test.object_mask_threshold if written("object_mask_threshold") else known.object_mask,
        overlap=test.overlap_threshold if written("overlap_threshold") else known.overlap,
        topk=test.test_topk_per_image if written("test_topk_per_image") else known.topk,
    )
    changed = copy.copy(segmenter)  # of a runtime's own subclass, too
    changed.manifest = replace(segmenter.manifest, thresholds=thresholds)
    return changed


def requested_tasks(wanted: str, segmenter: Segmenter, path: str, field: str) -> tuple[str, ...]:
    """Return the tasks of a model file that a field of the spec asks for; `all` are those that are installed here.

    Raises:
        SpecError: The model was not trained for the task; the message names those that it was trained for.
    """
    if wanted == ALL:
        return segmenter.manifest.tasks
    try:
        segmenter.manifest.tokens(wanted)
    except UsageError as error:
        raise SpecError(f"{field}: {path}: {error}") from None
    return (declared_task(wanted).name,)


def input_rule(segmenter: Segmenter, spec: Spec, section: EvaluateSection | InferenceSection) -> SizeRule | None:
    """Return the size rule that the user set; None means the one in the model's manifest."""
    rule = image_size_rule(section.image_size) if isinstance(section, InferenceSection) else None
    if rule is None and any(path.startswith("dataset.") and leaves()[path].option.from_model for path in spec.written):
        rule = size_rule(spec)
    fixed = segmenter.manifest.fixed_size
    if rule is not None and fixed is not None:
        note(f"the model was exported at {fixed[1]} x {fixed[0]} pixels, which overrides the sizes in the spec")
        return None
    return rule
