"""Find the user's own optimizer, `optimizer.class=MODULE:NAME`, and check that it can train here, by steps on a trial.

docs/extending.md has the contract in full.
"""

from __future__ import annotations

import functools
import inspect
import io
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ppolab.errors import ConfigError, OptimizerError
from ppolab.learning.flat_parameters import FlatParameters, flatten_parameters
from ppolab.learning.shaped_optimizer import ShapedOptimizer
from ppolab.runtime.user_code import named_object, what_was_raised

log = logging.getLogger(__name__)

EXAMPLE = "optimizer.class=my_package:MyOptimizer"
STEPS = 3

MakeOptimizer = Callable[[FlatParameters], torch.optim.Optimizer]


def own_class(target: str) -> type[torch.optim.Optimizer]:
    """Return the class of the user's that `target` names, as MODULE:NAME.

    Raises:
        ConfigError: there is none, or it is no optimizer that makes a step from a gradient.
    """
    setting = f"optimizer.class={target}"
    found = named_object(setting, target, EXAMPLE)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        told = found.__name__ if isinstance(found, type) else f"a {type(found).__name__}"
        raise ConfigError(f"{setting}: must be a class that derives from torch.optim.Optimizer, and is {told}")
    closure = inspect.signature(found.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ConfigError(
            f"{setting}: its step() needs the loss again within a step (a closure), which a minibatch step does not "
            "give; write step(self, closure=None), and step along the gradients"
        )
    return found


def made_own(
    kind: type[torch.optim.Optimizer], target: str, flat: FlatParameters, options: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Return an optimizer of the user's, of each parameter in its own shape: nobody knows whether it looks at shapes.

    Where its class says `elementwise = True`, it gets the whole vector.

    Raises:
        ConfigError: it raised.
    """
    make: Callable[..., torch.optim.Optimizer] = kind
    try:
        if getattr(kind, "elementwise", False):
            return _reported(make([flat.vector], **options), target)
        return ShapedOptimizer(flat, lambda named: [_reported(make(list(named.values()), **options), target)])
    except Exception as error:  # a user's class may raise anything
        raise ConfigError(f"optimizer.class={target}: making it raised {what_was_raised(error)}") from error


def _reported(optimizer: torch.optim.Optimizer, target: str) -> torch.optim.Optimizer:
    """Return the optimizer, whose steps and whose state_dict raise an OptimizerError in place of what they raise."""
    for name in ("step", "state_dict"):
        setattr(optimizer, name, _reporting(getattr(optimizer, name), f"optimizer.class={target}: its {name}()"))
    return optimizer


def _reporting(method: Callable[..., Any], told: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any, **settings: Any) -> Any:
        try:
            return method(*arguments, **settings)
        except Exception as error:  # a user's class may raise anything
            raise OptimizerError(f"{told} raised {what_was_raised(error)}") from error

    return call


def check_steps(target: str, make: MakeOptimizer) -> None:
    """Make steps of an optimizer on a small network, and store and load it between them.

    Raises:
        ConfigError: it cannot train here. That it does not go on exactly after it was loaded is a warning in the log.
    """
    setting = f"optimizer.class={target}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flat = flatten_parameters(nn.ModuleDict({"actor": nn.Linear(3, 4), "action_head": nn.Linear(4, 2)}))
        gradients = [torch.randn_like(flat.vector) for _ in range(2 * STEPS)]
        optimizer = make(flat)
        if not all("lr" in group for group in optimizer.param_groups):
            raise ConfigError(
                f"{setting}: its parameter groups have no lr, which a schedule changes; hand defaults such as "
                "{'lr': lr} to torch.optim.Optimizer.__init__"
            )
        _step(setting, optimizer, flat, gradients[:STEPS])
        second = FlatParameters(nn.Parameter(flat.vector.detach().clone()), flat.names, flat.shapes)
        loaded = make(second)
        try:
            loaded.load_state_dict(_through_a_file(setting, optimizer.state_dict()))
        except ConfigError:
            raise
        except OptimizerError as error:  # of state_dict
            raise ConfigError(str(error)) from error.__cause__
        except Exception as error:
            raise ConfigError(f"{setting}: load_state_dict raised {what_was_raised(error)}") from error
        for each, vector in ((optimizer, flat), (loaded, second)):
            torch.manual_seed(1)  # of one that draws random numbers
            _step(setting, each, vector, gradients[STEPS:])
    if not torch.equal(flat.vector, second.vector):
        log.warning(
            "%s: after its state was stored and loaded it makes other steps, so a resumed run will not repeat one that "
            "was never interrupted; keep all that a step depends on in self.state, as float32",
            setting,
        )


def _step(setting: str, optimizer: torch.optim.Optimizer, flat: FlatParameters, gradients: list[Tensor]) -> None:
    for gradient in gradients:
        flat.vector.grad = gradient.clone()
        try:
            optimizer.step()
        except OptimizerError as error:
            raise ConfigError(
                f"{error}; gradients are dense tensors in p.grad, and there is no closure"
            ) from error.__cause__
        place = flat.vector.untyped_storage().data_ptr()
        of_groups = [each for group in optimizer.param_groups for each in group["params"]]
        if any(each.untyped_storage().data_ptr() != place for each in of_groups):
            raise ConfigError(
                f"{setting}: its step() puts a new tensor in place of a parameter; change parameters in place, such as "
                "p.add_(direction, alpha=-lr) under torch.no_grad()"
            )
    if not flat.vector.isfinite().all():
        raise ConfigError(f"{setting}: its steps along finite gradients are not finite; check its settings")


def _through_a_file(setting: str, state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        loaded: dict[str, Any] = torch.load(file, weights_only=True)
    except Exception as error:  # pickle's and PyTorch's families
        raise ConfigError(
            f"{setting}: its state_dict() holds something else than tensors, numbers, texts, lists and dicts, which "
            f"checkpoints cannot hold: {type(error).__name__}: {_first_sentence(error)}"
        ) from error
    return loaded


def _first_sentence(error: Exception) -> str:
    """PyTorch's refusal names the type after several lines of advice."""
    text = " ".join(str(error).split())
    _, found, rest = text.partition("WeightsUnpickler error: ")
    return (rest if found else text).partition(". ")[0]
