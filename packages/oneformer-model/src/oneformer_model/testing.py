"""The contract of a backbone as a check that every registered backbone, ours or a plugin's, must pass."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from oneformer_model.backbones import Backbone, Recomputing, Resampling, Staged
from oneformer_spec import hooks
from oneformer_spec.plugins.option import stated
from oneformer_spec.plugins.option_types import checked_options
from oneformer_spec.plugins.registry import resolve

SIZES = ((64, 64), (61, 83))
_HEAVY = ("torch", "timm")
_EXPORTERS = ("onnx", "onnxruntime", "onnxscript", "onnxslim", "onnx_ir")
_EXPORT_TOLERANCE = 1e-3  # of the largest value


def check_backbone(declaration: hooks.Backbone, **options: Any) -> None:
    """Check a declared backbone; `options` make it small, the rest takes its defaults.

    Parameters that do not require gradients are taken for frozen. Where the packages of `oneformer-model[onnx]` are
    installed, the backbone is written as an ONNX graph too, whose maps are compared.

    Raises:
        AssertionError: It breaks the contract; the message says where.
    """
    _check_options(declaration)
    build = resolve(declaration.target)
    torch.manual_seed(0)
    backbone = build(**options)
    _require(isinstance(backbone, nn.Module), f"{declaration.target} must return an nn.Module")
    _require(isinstance(backbone, Backbone), f"{declaration.name}: `channels` and `strides` are missing")
    _require(
        list(backbone.channels) == list(backbone.strides),
        f"{declaration.name}: `channels` names {list(backbone.channels)}, `strides` {list(backbone.strides)}",
    )
    for size in SIZES:
        _check_outputs(declaration.name, backbone, size)
    _check_gradients(declaration.name, backbone)
    if isinstance(backbone, Staged):
        _check_stages(declaration.name, backbone)
    if isinstance(backbone, Resampling):
        _check_resampling(declaration.name, backbone)
    if all(find_spec(name) for name in _EXPORTERS):
        _check_export(declaration.name, _module(backbone))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _check_options(declaration: hooks.Backbone) -> None:
    """Options are a dataclass that needs no torch; names and defaults are the keywords of the target."""
    try:
        kind = checked_options(resolve(declaration.options))
    except TypeError as error:
        raise AssertionError(f"{declaration.options}: {error}") from None
    module = declaration.options.partition(":")[0]
    script = f"import sys, {module}; print(*[name for name in {_HEAVY!r} if name in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    _require(not heavy, f"{module} imports {', '.join(heavy)}: specs could not be checked where that is not installed")
    declared = {item.name: _default(item) for item in fields(kind) if not stated(item).spec_only}
    keywords = {
        name: _listed(parameter.default)
        for name, parameter in inspect.signature(resolve(declaration.target)).parameters.items()
    }
    _require(declared == keywords, f"{declaration.options} declares {declared}, {declaration.target} takes {keywords}")


def _default(item: Field[Any]) -> Any:
    return _listed(item.default if item.default_factory is MISSING else item.default_factory())


def _listed(value: Any) -> Any:
    return [_listed(entry) for entry in value] if isinstance(value, list | tuple) else value


def _check_outputs(name: str, backbone: Backbone, size: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *size)
    _module(backbone).eval()
    with torch.inference_mode():
        outputs, alone = backbone(image), backbone(image[1:])
    _require(
        list(outputs) == list(backbone.channels), f"{name}: gives {list(outputs)}, tells {list(backbone.channels)}"
    )
    for output, value in outputs.items():
        stride = backbone.strides[output]
        expected = (2, backbone.channels[output], -(-size[0] // stride), -(-size[1] // stride))
        _require(tuple(value.shape) == expected, f"{name}: {output} of {size} is {tuple(value.shape)}, not {expected}")
        _require(bool(value.isfinite().all()), f"{name}: {output} of {size} holds values that are not finite")
        _require(
            torch.allclose(value[1:], alone[output], rtol=1e-3, atol=1e-4),
            f"{name}: {output} of {size} changes with the other images of the batch",
        )


def _check_gradients(name: str, backbone: Backbone) -> None:
    """Every parameter that is not frozen learns; with recomputed activations the gradients are the same."""
    gradients = _gradients(backbone)
    unreached = [key for key, value in gradients.items() if value is None]
    _require(not unreached, f"{name}: no gradient reaches {', '.join(unreached)}")
    if not isinstance(backbone, Recomputing):
        return
    backbone.set_grad_checkpointing(True)
    recomputed = _gradients(backbone)
    backbone.set_grad_checkpointing(False)
    for key, value in gradients.items():
        other = recomputed[key]
        same = value is not None and other is not None and torch.allclose(value, other, rtol=1e-3, atol=1e-5)
        _require(same, f"{name}: the gradient of {key} changes when activations are recomputed")


def _gradients(backbone: Backbone) -> Mapping[str, Tensor | None]:
    module = _module(backbone).train()
    module.zero_grad()
    torch.manual_seed(0)  # dropout and drop path draw the same
    outputs = backbone(torch.randn(2, 3, 64, 64))
    torch.stack([value.square().mean() for value in outputs.values()]).sum().backward()
    return {key: parameter.grad for key, parameter in module.named_parameters() if parameter.requires_grad}


def _check_stages(name: str, backbone: Staged) -> None:
    """The parts hold parameters of the backbone, none of them twice, and stay out of its state."""
    before = list(_module(backbone).state_dict())
    parts = [parameter for part in backbone.stem_and_stages() for parameter in part.parameters()]
    foreign = set(parts) - set(_module(backbone).parameters())
    _require(not foreign, f"{name}: stem_and_stages names foreign modules")
    _require(len(parts) == len(set(parts)), f"{name}: stem_and_stages names a parameter twice")
    _require(before == list(_module(backbone).state_dict()), f"{name}: stem_and_stages changes the backbone")


def _check_resampling(name: str, backbone: Resampling) -> None:
    """Held at a size the backbone gives the same maps of it, and afterwards it is as before."""
    module, (height, width) = _module(backbone).eval(), SIZES[-1]
    image = torch.randn(1, 3, height, width)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with torch.no_grad():
        expected = module(image)
        with backbone.at_size(height, width):
            held = module(image)
    for output, value in held.items():
        _require(torch.allclose(value, expected[output], atol=1e-5), f"{name}: {output} changes when held at a size")
    after = module.state_dict()
    same = list(before) == list(after) and all(torch.equal(value, after[key]) for key, value in before.items())
    _require(same, f"{name}: at_size leaves the backbone changed")


def _check_export(name: str, backbone: nn.Module) -> None:
    """A graph of one size can be written, and gives the backbone's maps."""
    from oneformer_model.onnx_export.backbone import exported_maps  # needs onnx

    image = torch.randn(1, 3, *SIZES[-1])
    with torch.no_grad():
        expected = backbone.eval()(image)
    try:
        found = exported_maps(backbone, image)
    except Exception as error:  # torch's exporter and onnxruntime have many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise AssertionError(
            f"{name}: cannot be exported to ONNX: {reason}. A backbone that resamples tables, such as learned "
            "positions, to the size of each image offers `at_size` (oneformer_model.backbones.Resampling)"
        ) from error
    for (output, value), other in zip(expected.items(), found, strict=True):
        difference = float((other - value).abs().max() / value.abs().max())
        _require(
            difference <= _EXPORT_TOLERANCE,
            f"{name}: {output} of its ONNX graph differs by {difference:.1g} of the largest value. A backbone whose "
            "tables depend on the size of each image offers `at_size` (oneformer_model.backbones.Resampling)",
        )


def _module(backbone: object) -> nn.Module:
    assert isinstance(backbone, nn.Module)
    return backbone
