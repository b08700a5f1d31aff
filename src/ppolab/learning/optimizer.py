"""Make the configured optimizer, and step it along the gradient of one flat vector."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from ppolab.config.files import option_defaults
from ppolab.config.optimizers import (
    ADAMW_PART,
    LOOKS_AT_SHAPES,
    OPTIMIZER_NAMESPACE,
    OWN_FILE,
    is_own,
    other_file,
    shipped_values,
)
from ppolab.config.schema import Config
from ppolab.errors import ConfigError, nearest, spelled
from ppolab.learning.actor_critic import is_of_a_head
from ppolab.learning.flat_parameters import FlatParameters, flatten_parameters
from ppolab.learning.own_optimizer import check_steps, made_own, own_class
from ppolab.learning.shaped_optimizer import ShapedOptimizer

log = logging.getLogger(__name__)

RATE_SHARE = "rate_share"
"""Key of a parameter group: its learning rate is this many times the optimizer's. A group without it has 1."""


def optimizer_class(config: Config) -> type[torch.optim.Optimizer]:
    """Return the class that `optimizer._target_` names; raise ConfigError when there is no such optimizer."""
    target = str(config.optimizer["_target_"])
    if is_own(target):
        return own_class(target)
    optimizers = importlib.import_module("torch.optim")
    found = vars(optimizers).get(target.removeprefix(OPTIMIZER_NAMESPACE))
    if isinstance(found, type) and issubclass(found, optimizers.Optimizer):
        return found
    name = target.rpartition(".")[2]
    raise ConfigError(f"optimizer._target_={target}: there is no such class{nearest(name, vars(optimizers))}")


def check_optimizer(config: Config) -> None:
    """Raise ConfigError unless the optimizer can be made; log which shipped options its class does not take."""
    _, dropped = _options(config)
    if dropped:
        log.info("optimizer: %s does not take %s: left out", config.optimizer["_target_"], ", ".join(dropped))
    if is_own(config.optimizer["_target_"]):
        _tell_other_rate(config)
        check_steps(config.optimizer["_target_"], lambda flat: make_optimizer(config, flat))
        return
    layers = {"action_head": nn.Linear(1, 1)}
    hidden = config.model.sizes_of_actor or config.model.sizes_of_critic
    layers |= {"actor": nn.Linear(1, 1)} if hidden else {}
    make_optimizer(config, flatten_parameters(nn.ModuleDict(layers)))


def _tell_other_rate(config: Config) -> None:
    """Log that nobody gave a learning rate, where the user's class has one of its own."""
    rate = config.optimizer["lr"]
    parameter = inspect.signature(optimizer_class(config)).parameters.get("lr")
    own = None if parameter is None or parameter.default is parameter.empty else parameter.default
    if own is not None and own != rate == option_defaults("optimizer", OWN_FILE)["lr"]:
        target = config.optimizer["_target_"]
        log.info(
            "optimizer.lr=%g is the default here, and that of %s is %s; set optimizer.lr to choose", rate, target, own
        )


def make_optimizer(config: Config, flat: FlatParameters) -> torch.optim.Optimizer:
    """Return the configured optimizer of the parameters in `flat`.

    Most step the vector as it is. Those in `LOOKS_AT_SHAPES` step its parameters in their own shapes, as most of the
    user's do.

    Raises:
        ConfigError: there is none of this name, or it does not take the settings.
    """
    kind, target = optimizer_class(config), config.optimizer["_target_"]
    options, _ = _options(config)
    if is_own(target):
        return made_own(kind, target, flat, options)
    try:
        if kind is torch.optim.Muon:
            return ShapedOptimizer(flat, lambda named: _muon_and_adamw(named, options))
        if kind.__name__ in LOOKS_AT_SHAPES:
            return ShapedOptimizer(flat, lambda named: [kind(list(named.values()), **options)])
        return kind([flat.vector], **options)
    except (TypeError, ValueError, RuntimeError) as error:
        name = other_file(config.optimizer)
        fix = f"; optimizer={name} has options that it takes" if name else ""
        raise ConfigError(f"optimizer: {target} does not take these settings: {error}{fix}") from error


def _options(config: Config) -> tuple[dict[str, Any], list[str]]:
    """Return (the options for the optimizer's class, those that it does not take and nobody asked for).

    The second are what a shipped file sets for another class: `optimizer=adam optimizer._target_=torch.optim.SGD`.

    Raises:
        ConfigError: somebody gave an option that the class does not take.
    """
    kind = optimizer_class(config)
    parameters = list(inspect.signature(kind).parameters.values())[1:]  # the first is what is to be optimized
    accepted = {parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD}
    if len(accepted) < len(parameters):  # it has **others
        accepted |= set(config.optimizer) - {"_target_"}
    if kind is torch.optim.Muon:
        accepted.add(ADAMW_PART)
    options, dropped = {}, []
    for key, value in config.optimizer.items():
        if key in accepted:
            options[key] = value
        elif key != "_target_" and value in shipped_values(config.optimizer, key):
            dropped.append(f"{key}={spelled(value)}")
        elif key != "_target_":
            raise ConfigError(
                f"optimizer.{key}={spelled(value)}: {config.optimizer['_target_']} has no such option"
                f"{nearest(key, accepted)}; leave it out, or use one of {', '.join(sorted(accepted))}"
            )
    return options, dropped


def _muon_and_adamw(named: Mapping[str, nn.Parameter], options: Mapping[str, Any]) -> list[torch.optim.Optimizer]:
    """Return Muon for the weights of hidden layers, and AdamW for biases, heads and standard deviations.

    Jordan et al. 2024 (Muon, kellerjordan.github.io/posts/muon): it is for the matrices inside a network.
    """
    inside = [name for name, part in named.items() if part.dim() == 2 and not is_of_a_head(name)]
    if not inside:
        raise ValueError("model.hidden_sizes=[] leaves it no matrix to step; use optimizer=adamw")
    rest = dict(options.get(ADAMW_PART) or {})
    muon = {key: value for key, value in options.items() if key != ADAMW_PART}
    rest.setdefault("lr", muon["lr"])
    others = {"params": [part for name, part in named.items() if name not in inside]}
    others[RATE_SHARE] = rest["lr"] / muon["lr"]
    return [torch.optim.Muon([named[name] for name in inside], **muon), torch.optim.AdamW([others], **rest)]


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate of the whole optimizer: that of a parameter group without a share of its own."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / float(group.get(RATE_SHARE, 1.0))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let every parameter group step at `rate`, or at its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(RATE_SHARE, 1.0)


def clip_norm(gradient: Tensor, max_norm: float) -> tuple[Tensor, Tensor]:
    """Return (`gradient` scaled down, where needed, to Euclidean norm `max_norm`; its norm before that, []).

    Pascanu et al. 2013 (arXiv:1211.5063), algorithm 1. `max_norm` 0 leaves the gradient alone. Else it may be
    changed in place.
    """
    norm: Tensor = gradient.norm()
    if max_norm == 0:
        return gradient, norm
    if norm.is_cpu:  # reading it costs less than the four operations below; on a GPU it would wait for the device
        value = float(norm)
        return (gradient.mul_(max_norm / (value + 1e-6)) if value > max_norm else gradient), norm
    return gradient * (max_norm / (norm + 1e-6)).clamp(max=1.0), norm


def adam_state(optimizer: torch.optim.Optimizer, vector: nn.Parameter) -> dict[str, Tensor]:
    """Return the state of fused Adam; create it as PyTorch's first step would, which imports all of the compiler."""
    state: dict[str, Tensor] = optimizer.state[vector]
    if not state:
        state |= {"step": torch.zeros((), device=vector.device)}
        state |= {name: torch.zeros_like(vector) for name in ("exp_avg", "exp_avg_sq")}
    return state


def optimizer_step(optimizer: torch.optim.Optimizer, vector: nn.Parameter) -> Callable[[Tensor], None]:
    """Return a function that steps `vector` along a gradient [P] as `optimizer.step()` would.

    For plain fused Adam and AdamW it calls PyTorch's functional form on the optimizer's own state, because preparing
    the call of one small tensor takes `step` longer than the arithmetic.
    """

    def through_step(gradient: Tensor) -> None:
        vector.grad = gradient
        optimizer.step()

    @torch.no_grad()
    def direct(gradient: Tensor) -> None:
        group, state = optimizer.param_groups[0], adam_state(optimizer, vector)
        beta1, beta2 = group["betas"]
        return adam(
            [vector], [gradient], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
            fused=True, amsgrad=False, maximize=group["maximize"], beta1=beta1, beta2=beta2, lr=group["lr"],
            eps=group["eps"], weight_decay=group["weight_decay"],
            decoupled_weight_decay=group["decoupled_weight_decay"],
        )  # fmt: skip

    return direct if is_adam(optimizer) else through_step


def is_adam(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether its state and steps are those of PyTorch's Adam or AdamW, fused, without amsgrad."""
    group = optimizer.param_groups[0]
    known = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
    return known and bool(group["fused"]) and not group["amsgrad"]
