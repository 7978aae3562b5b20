"""The command `dataset check`."""

from __future__ import annotations

from oneformer_data.selection_app import (
    Annotations,
    Images,
    Json,
    LabelMap,
    Overrides,
    Panoptic,
    SpecFiles,
    Type,
    write_json,
)


def check(
    overrides: Overrides = None,
    experiment_spec: SpecFiles = None,
    annotations: Annotations = None,
    images: Images = None,
    panoptic: Panoptic = None,
    label_map: LabelMap = None,
    type: Type = None,
    json_file: Json = None,
) -> None:
    """Find every problem of annotated images, and images that two splits share.

    Each problem is a line on stderr; exit code 1 if there is any. The options stand for dataset.val of a spec.
    """
    import sys

    from oneformer_data import data_check
    from oneformer_data.selection import selected
    from oneformer_spec.entry import report
    from oneformer_spec.errors import DataError
    from oneformer_spec.schema import Split

    data = Split(type=type, images=images, annotations=annotations, panoptic=panoptic)
    dataset = selected(experiment_spec or (), overrides or (), data=data, label_map=label_map)
    erase = "\r\033[K" if sys.stderr.isatty() else ""  # the line of progress
    findings = data_check.check(dataset, lambda problem: report(f"{erase}{problem}"))
    if json_file is not None:
        write_json(findings.document(), json_file)
    if json_file != "-":
        print(findings.table())
    if number := len(findings.problems):
        shared = f", {findings.shared} of them between splits" if findings.shared else ""
        raise DataError(f"{number} problem{'s' * (number > 1)} in the data{shared}")
    if json_file != "-":
        print("no problems")
