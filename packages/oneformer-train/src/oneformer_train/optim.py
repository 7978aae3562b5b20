"""Parameter groups and the optimiser: which parameters learn how fast, and which decay."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from oneformer_spec.schema import Optim

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


def optimizer(model: nn.Module, options: Optim) -> Optimizer:
    """Build the optimiser that `train.optim` describes; `momentum` is beta1 of AdamW."""
    groups = parameter_groups(model, options)
    if options.type == "SGD":
        return SGD(groups, lr=options.lr, momentum=options.momentum)
    return AdamW(groups, lr=options.lr, betas=(options.momentum, 0.999), fused=True)


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
