"""The hooks: a task and its score. Every command reads this module, so it imports nothing heavy."""

from oneformer_spec.hooks import Evaluator, Task, hookimpl


@hookimpl
def oneformer_tasks() -> list[Task]:
    """Declare the task `boundary`, whose results look like panoptic ones: segments, and void elsewhere."""
    targets = "oneformer_boundary.targets:targets"
    return [Task("boundary", "The task is boundary", targets, decode="panoptic", needs=("panoptic", "semantic"))]


@hookimpl
def oneformer_evaluators() -> list[Evaluator]:
    """Declare the score, and the number of it that training shows."""
    score, number = "oneformer_boundary.score:BoundaryScore", {"boundary_F": ("boundary", "F")}
    return [Evaluator("boundary", score, "boundary", number)]
