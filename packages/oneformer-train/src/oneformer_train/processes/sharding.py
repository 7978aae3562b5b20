"""What the processes of a run share: nothing, the state of the optimiser, or the weights as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from oneformer_model import OneFormer
from oneformer_train.processes import group


def strategy(name: str) -> DDPStrategy:
    """Return the strategy that `train.distributed_strategy` names."""
    if name == "ddp":
        return DDPStrategy(gradient_as_bucket_view=True)
    return ShardedStrategy(keep_weights=name == "ddp_sharded")


class ShardedStrategy(DDPStrategy):
    """Every process keeps its share of weights, gradients and optimiser state (FSDP2, `torch.distributed.fsdp`).

    Weights are gathered where they are needed. Checkpoints hold whole tensors in the layout of any other run's.
    """

    def __init__(self, *, keep_weights: bool) -> None:
        """With `keep_weights` they stay gathered from a forward pass to its backward pass, which saves a gathering."""
        super().__init__()
        self.keep_weights = keep_weights
        self._gathered = False
        self._scalars: set[str] = set()

    def configure_ddp(self) -> None:
        """Shard the network, before the optimiser is built of its parameters."""
        model = self._network()
        self._scalars = _lift_scalars(model)
        mesh = init_device_mesh(self.root_device.type, (group.size(),))
        for unit in units(model):
            fully_shard(unit, mesh=mesh, reshard_after_forward=not self.keep_weights)
        # What is left is small, and the loss reads some of it after the forward pass.
        fully_shard(model, mesh=mesh, reshard_after_forward=False)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Go back to sharded weights after a validation."""
        self._gather(False)
        return super().training_step(*args, **kwargs)

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Gather all weights first: processes validate different numbers of pictures, so none may wait for another."""
        self._gather(True)
        return super().validation_step(*args, **kwargs)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return whole tensors; every process must ask for them."""
        assert self.lightning_module is not None
        state = {name: _whole(value) for name, value in self.lightning_module.state_dict().items()}
        return {name: value.reshape(()) if name in self._scalars else value for name, value in state.items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return whole tensors in the layout of the optimiser itself; every process must ask for them."""
        plain = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state = plain.state_dict()
        scalars = {name.removeprefix("model.") for name in self._scalars}
        lifted = {id(parameter) for name, parameter in self._network().named_parameters() if name in scalars}
        places = [id(parameter) for group in plain.param_groups for parameter in group["params"]]
        state["state"] = {
            place: {name: _lowered(_whole(value), places[place] in lifted) for name, value in entry.items()}
            for place, entry in state["state"].items()
        }
        return state

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give every process its share of whole tensors."""
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                place: {name: _share(value, parameters[place], name) for name, value in entry.items()}
                for place, entry in whole["state"].items()
            }
            optimizer.load_state_dict({**whole, "state": state})

    def _network(self) -> OneFormer:
        assert self.lightning_module is not None
        return cast(OneFormer, self.lightning_module.model)

    def _gather(self, wanted: bool) -> None:
        if wanted == self._gathered:
            return
        self._gathered = wanted
        model = self._network()
        for unit in units(model):
            cast(FSDPModule, unit).set_reshard_after_forward(not (wanted or self.keep_weights), recurse=False)
        for part in (model, *units(model)):
            sharded = cast(FSDPModule, part)
            sharded.unshard() if wanted else sharded.reshard()


def units(model: OneFormer) -> list[nn.Module]:
    """Return the parts whose weights are gathered at once: those that one forward pass calls exactly once."""
    found: list[nn.Module] = [model.backbone, model.pixel_decoder, model.query_decoder]
    return [*found, model.text_branch.encoder] if model.text_branch is not None else found


def _lift_scalars(model: nn.Module) -> set[str]:
    """Make scalar parameters vectors of one number, as FSDP2 needs them; return their names in the module."""
    names = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    for name in names:
        home, _, own = name.rpartition(".")
        parameter = model.get_parameter(name)
        lifted = nn.Parameter(parameter.detach().reshape(1), requires_grad=parameter.requires_grad)
        setattr(model.get_submodule(home), own, lifted)
    return {f"model.{name}" for name in names}


def _whole(value: Any) -> Any:
    """Return a tensor with the shares of all processes, on the CPU."""
    if not isinstance(value, Tensor):
        return value
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()


def _lowered(value: Any, lifted: bool) -> Any:
    return value.reshape(()) if lifted and isinstance(value, Tensor) else value


def _share(value: Any, parameter: Tensor, name: str) -> Any:
    """Return this process's part of the optimiser's state of a parameter; a count of steps is whole everywhere."""
    if not isinstance(value, Tensor) or not isinstance(parameter, DTensor) or name == "step":
        return value
    whole = value.reshape(parameter.shape).to(parameter.device)
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements)
