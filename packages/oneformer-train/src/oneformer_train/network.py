"""The network of a run: built and frozen as the spec says, and the weights that a fresh run starts from."""

from __future__ import annotations

from oneformer_model import OneFormer
from oneformer_model.build import build
from oneformer_model.weights import pretrained
from oneformer_spec.commands.exit import note
from oneformer_spec.schema import Spec
from oneformer_train.optimisation.freezing import freeze, freezing


def build_network(spec: Spec) -> OneFormer:
    """Return the network with its text branch and random weights, `train.freeze` applied."""
    model: OneFormer = build(
        spec.model,
        training=True,
        activation_checkpoint=spec.train.activation_checkpoint,
        task_length=spec.dataset.task_seq_len,
    )
    if spec.train.freeze:
        note(freezing(model, freeze(model, spec.train.freeze)))
    return model


def load_pretrained(model: OneFormer, spec: Spec) -> None:
    """Copy the weights that a fresh run starts from, and print notes about them.

    Raises:
        CheckpointError: They cannot be read or do not fit the network.
    """
    whole, backbone = spec.train.pretrained_model_path, spec.model.backbone.pretrained_weights
    if whole is None:
        notes = pretrained.load_backbone(model.backbone, backbone, spec.encryption_key)
    else:
        notes = pretrained.start_from(model, whole, reinit_heads=spec.train.reinit_heads, key=spec.encryption_key)
        if backbone is not None:
            notes.append("model.backbone.pretrained_weights is not read: train.pretrained_model_path brings a backbone")
    for line in notes:
        note(line)
