"""Parameter groups and the optimiser: which parameters learn how fast, and which decay.

| parameters | learning rate | weight decay |
|---|---|---|
| of the backbone | lr x backbone_multiplier | as below |
| all others | lr | as below |
| weights and biases of linear layers and convolutions | | weight_decay |
| norms, embeddings, tables of positions and levels, the contrastive temperature | | none |

That biases decay and norms do not is the recipe of the published weights (OneFormer, section 4.1, as in Mask2Former).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from oneformer_spec.errors import CheckpointError
from oneformer_spec.schema import Optim

_BETA2 = 0.999  # of AdamW
# Parameters that are looked up or added rather than multiplied: decay would pull every entry to 0, used or not.
_TABLES = {
    *("relative_position_bias", "position", "position_embedding", "level_embedding", "logit_scale"),
    *("pos_embed", "cls_token", "reg_token"),  # timm's names
}


def parameter_groups(model: nn.Module, options: Optim) -> list[dict[str, object]]:
    """Return at most four groups: backbone or not, decayed or not.

    The backbone learns at `lr` times `backbone_multiplier`; norms, embeddings and position tables do not decay.
    Frozen parameters are left out.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, module, parameter_name, parameter in _parameters(model):
        in_backbone = name.startswith("backbone.")
        groups.setdefault((in_backbone, _decays(module, parameter_name)), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": options.lr * (options.backbone_multiplier if in_backbone else 1.0),
            "weight_decay": options.weight_decay if decays else 0.0,
            "name": f"{'backbone' if in_backbone else 'head'}{'' if decays else '_no_decay'}",
        }
        for (in_backbone, decays), parameters in sorted(groups.items())
    ]


def optimizer(model: nn.Module, options: Optim, *, scaled: bool = False) -> Optimizer:
    """Build the optimiser that `train.optim` describes; `momentum` is beta1 of AdamW.

    `scaled` says that gradients come scaled (fp16): a fused optimiser unscales them within its own step, too late for
    clipping, so the one of few kernels a group is taken.
    """
    groups = parameter_groups(model, options)
    if options.type == "SGD":
        return SGD(groups, lr=options.lr, momentum=options.momentum)
    return AdamW(groups, lr=options.lr, betas=(options.momentum, _BETA2), fused=not scaled)


@dataclass(frozen=True)
class Trained:
    """What the state of an optimiser belongs to: its type, and the parameters that it trains by name."""

    type: str
    parameters: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module, options: Optim) -> Self:
        """Describe the optimiser of a model."""
        return cls(options.type, tuple(name for name, value in model.named_parameters() if value.requires_grad))

    def plain(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {"type": self.type, "parameters": list(self.parameters)}

    def check(self, saved: Mapping[str, Any], source: str) -> None:
        """Refuse the state of an optimiser that belongs to something else.

        Raises:
            CheckpointError: It does; the message begins with `source`.
        """
        instead = "; train.pretrained_model_path, with another results_dir, starts a new run from its weights"
        if saved["type"] != self.type:
            raise CheckpointError(
                f"{source}: its run was trained by {saved['type']}, train.optim.type is {self.type}{instead}"
            )
        changed = sorted({*saved["parameters"]} ^ {*self.parameters})
        if changed:
            raise CheckpointError(
                f"{source}: its run trained other parameters ({len(changed)} differ, such as {changed[0]}); a run "
                f"goes on with the train.freeze and model.backbone.freeze_at that it began with{instead}"
            )


def take_up(built: Optimizer, model: nn.Module, options: Optim) -> list[float | Tensor]:
    """Put the spec's settings into an optimiser that a checkpoint restored, and return the groups' base rates.

    A checkpoint holds the settings of the run that wrote it; where the spec says something else, the spec counts.
    """
    fresh = parameter_groups(model, options)
    momentum = {"momentum": options.momentum} if options.type == "SGD" else {"betas": (options.momentum, _BETA2)}
    for group, wanted in zip(built.param_groups, fresh, strict=True):
        group.update(momentum, weight_decay=wanted["weight_decay"], initial_lr=wanted["lr"])
    return [group["initial_lr"] for group in built.param_groups]


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Yield full name, owning module, own name and parameter; shared parameters once, frozen ones never."""
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield f"{module_name}.{name}", module, name, parameter


def _decays(module: nn.Module, parameter_name: str) -> bool:
    is_norm = isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm)
    return not (is_norm or isinstance(module, nn.Embedding) or parameter_name in _TABLES)
