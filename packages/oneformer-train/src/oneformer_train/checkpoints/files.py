"""Lightning's checkpoints in our file format: weights, manifest and state of training, as tensors and plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import CheckpointIO

from oneformer_model.weights import checkpoint as files
from oneformer_spec.errors import CheckpointError
from oneformer_spec.segmentation.manifest import Manifest

_PREFIX = "model."


class CheckpointFiles(CheckpointIO):
    """Writes and reads what `oneformer_model.load` reads too; the state of training lies beside the weights."""

    def __init__(self, manifest: Manifest, key: str | None = None) -> None:
        """Write `manifest` into every checkpoint, and encrypt it where there is a key."""
        self.manifest = manifest
        self.key = key

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write atomically; `checkpoint` is Lightning's.

        Raises:
            CheckpointError: It cannot be written, for instance to a full disk; what was there stays.
        """
        state = {name.removeprefix(_PREFIX): value for name, value in checkpoint["state_dict"].items()}
        training = {key: value for key, value in checkpoint.items() if key != "state_dict"}
        extra = {"training": training}
        try:
            files.save(path, state_dict=state, manifest=self.manifest, extra=extra, key=self.key)
        except OSError as error:
            kept = "; the state before it is kept" if Path(path).exists() else ""
            raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}{kept}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of a run; always with torch's safe loader.

        Raises:
            CheckpointError: The file holds weights without a state of training.
        """
        content = files.read(path, self.key)
        if "training" not in content:
            raise CheckpointError(
                f"{path}: holds weights but no state of training; start from them with train.pretrained_model_path"
            )
        state = {_PREFIX + name: value for name, value in content["state_dict"].items()}
        return {**content["training"], "state_dict": state}

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
