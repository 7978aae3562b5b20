"""The hook; this module imports nothing heavy."""

from oneformer_spec.hooks import Dataset, hookimpl


@hookimpl
def oneformer_datasets() -> list[Dataset]:
    """Declare the format `yolo`, which is meant where annotations are called `data.yaml`."""
    return [Dataset("yolo", "oneformer_yolo.format:Yolo", tasks=("instance",), names=("data.yaml",))]
