"""Optimizers on one vector, optimizers that look at shapes, and options that fit their class."""

from __future__ import annotations

import copy
import inspect
import logging
from typing import Any

import pytest
import torch
import torch._dynamo  # the first step of most optimizers imports it, which takes seconds
from gradients import INPUTS, algorithm_config, new_policy
from helpers import make_config, make_context, make_learner, random_rollout
from torch import Tensor, nn

from ppolab.config.files import config_folder
from ppolab.config.optimizers import LOOKS_AT_SHAPES, UNUSABLE
from ppolab.config.schema import Config
from ppolab.errors import ConfigError
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.flat_parameters import FlatParameters, flatten_parameters
from ppolab.learning.optimizer import (
    check_optimizer,
    learning_rate,
    make_optimizer,
    optimizer_step,
    set_learning_rate,
)
from ppolab.learning.shaped_optimizer import ShapedOptimizer

CLASSES = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
)
FILES = {"Adam": "adam", "AdamW": "adamw", "RMSprop": "rmsprop", "SGD": "sgd", "Muon": "muon", "Adafactor": "adafactor"}
USABLE = [name for name in CLASSES if name not in UNUSABLE]
SHAPED = sorted(LOOKS_AT_SHAPES)


def optimizer_config(name: str, **settings: Any) -> Config:
    """The shipped file of a class, or its own defaults and a learning rate."""
    other = {"optimizer": "sgd", "optimizer._target_": f"torch.optim.{name}"}
    chosen = {"optimizer": FILES[name]} if name in FILES else other
    return algorithm_config("ppo_clip", **(chosen | {"optimizer.lr": 1e-2} | settings))


def gradients(flat: FlatParameters, count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(flat.vector.shape, generator=generator) for _ in range(count)]


def ordinary_optimizers(policy: ActorCritic, config: Config) -> list[torch.optim.Optimizer]:
    """What a user of plain PyTorch would write for this network."""
    options = {key: value for key, value in config.optimizer.items() if key not in ("_target_", "adamw")}
    if config.optimizer["_target_"] != "torch.optim.Muon":
        name = config.optimizer["_target_"].rpartition(".")[2]
        given = options if name in FILES else {"lr": options["lr"], "weight_decay": 0.0}
        accepted = inspect.signature(vars(torch.optim)[name]).parameters
        kept = {key: value for key, value in given.items() if key in accepted}
        return [vars(torch.optim)[name](policy.parameters(), **kept)]
    hidden = [policy.actor[0].weight, policy.critic[0].weight]
    others = [part for part in policy.parameters() if not any(part is each for each in hidden)]
    return [torch.optim.Muon(hidden, **options), torch.optim.AdamW(others, **config.optimizer["adamw"])]


@pytest.mark.parametrize("name", USABLE)
def test_steps_are_those_of_an_ordinary_module(name: str) -> None:
    """Also holds the table to its word: all others treat every element by itself."""
    config = optimizer_config(name)
    policy, ordinary = new_policy(config), new_policy(config)
    flat = flatten_parameters(policy)
    step = optimizer_step(make_optimizer(config, flat), flat.vector)
    before = flat.vector.detach().clone()
    others = ordinary_optimizers(ordinary, config)
    for gradient in gradients(flat):
        step(gradient.clone())
        for parameter, part in zip(ordinary.parameters(), flat.named(gradient).values(), strict=True):
            parameter.grad = part.clone()
        for optimizer in others:
            optimizer.step()
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in ordinary.parameters()])
    assert (expected - before).abs().max() > 1e-4
    torch.testing.assert_close(flat.vector.detach(), expected, rtol=0, atol=1e-7)
    for name_of, parameter in policy.named_parameters():
        assert parameter.equal(flat.named(flat.vector.detach())[name_of])


@pytest.mark.parametrize("name", SHAPED)
def test_shapes_matter_to_those_in_the_table(name: str) -> None:
    config = optimizer_config(name)
    policy = new_policy(config)
    flat = flatten_parameters(policy)
    assert isinstance(make_optimizer(config, flat), ShapedOptimizer)
    kind = vars(torch.optim)[name]
    try:
        optimizer = kind([flat.vector], lr=1e-2)
    except ValueError as error:
        assert "2D" in str(error)
        return
    on_shapes, on_vector = flat.vector.detach().clone(), flat.vector
    shaped = FlatParameters(nn.Parameter(on_shapes), flat.names, flat.shapes)
    step = optimizer_step(make_optimizer(config, shaped), shaped.vector)
    for gradient in gradients(flat):
        step(gradient.clone())
        on_vector.grad = gradient
        optimizer.step()
    assert (shaped.vector - on_vector).abs().max() > 1e-4


@pytest.mark.parametrize("name", USABLE)
def test_a_checkpoint_goes_on_exactly(name: str) -> None:
    config = optimizer_config(name)
    whole, half = (flatten_parameters(new_policy(config)) for _ in range(2))
    first, second = make_optimizer(config, whole), make_optimizer(config, half)
    given = gradients(whole, 6)
    for gradient in given[:3]:
        optimizer_step(first, whole.vector)(gradient.clone())
    half.vector.data.copy_(whole.vector.detach())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for gradient in given[3:]:
        for optimizer, flat in ((first, whole), (second, half)):
            set_learning_rate(optimizer, 3e-3)  # also where loading has replaced the groups
            optimizer_step(optimizer, flat.vector)(gradient.clone())
    assert half.vector.equal(whole.vector)


@pytest.mark.parametrize("file", ["muon", "adafactor"])
@pytest.mark.parametrize("name", ["ppo_clip", "vpg", "npg", "a2c"])
def test_algorithms_train_with_them(name: str, file: str) -> None:
    own = {"algorithm.value_epochs": 9, "target_kl": 1e-9} if name == "ppo_clip" else {}
    config = algorithm_config(name, optimizer=file, **own, **{"optimizer.lr": 1e-2})
    policy = new_policy(config)
    rollout = random_rollout(policy, INPUTS)
    learner, flat = make_learner(policy, config)
    before = flat.vector.detach().clone()
    stats = [learner.update(rollout, rollout.rewards) for _ in range(5)]
    assert flat.vector.isfinite().all()
    assert all((part != flat.named(before)[key]).any() for key, part in flat.named(flat.vector.detach()).items())
    assert stats[-1].value_loss < stats[0].value_loss
    state = copy.deepcopy(learner.state())
    other, _ = make_learner(new_policy(config), config)
    other.load_state(state)


@pytest.mark.parametrize("file", ["muon", "adafactor"])
def test_vpg_s_own_step_is_one_of_matrices(file: str) -> None:
    """The step of a policy's hidden layer differs from the one that its elements would make alone."""
    results = []
    for options in ({"optimizer": file}, {"optimizer": "adamw", "optimizer.weight_decay": 0.0}):
        config = algorithm_config("vpg", **options, **{"optimizer.lr": 1e-3})
        context = make_context(new_policy(config), config)
        rollout = random_rollout(context.policy, INPUTS)
        before = context.policy.actor[0].weight.detach().clone()
        make_algorithm(context).update(rollout, rollout.rewards)
        results.append(context.policy.actor[0].weight.detach() - before)
    sizes = [change.abs() for change in results]
    assert sizes[1].std() < 0.05 * sizes[1].mean() < sizes[0].std()  # Adam's first step is lr for every element


# --- the learning rate -----------------------------------------------------------------------------------------------


def test_a_schedule_changes_both_learning_rates_by_the_same_factor() -> None:
    config = algorithm_config("ppo_clip", optimizer="muon", **{"optimizer.lr": 2e-3, "optimizer.adamw.lr": 1e-3})
    optimizer = make_optimizer(config, flatten_parameters(new_policy(config)))
    assert [group["lr"] for group in optimizer.param_groups] == [2e-3, 1e-3]
    set_learning_rate(optimizer, 1e-3)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 0.5e-3]
    assert learning_rate(optimizer) == 1e-3
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    set_learning_rate(optimizer, 4e-3)
    assert [group["lr"] for group in optimizer.param_groups] == [4e-3, 2e-3]


def test_one_rate_is_that_of_all_parameters() -> None:
    config = algorithm_config("ppo_clip")
    optimizer = make_optimizer(config, flatten_parameters(new_policy(config)))
    set_learning_rate(optimizer, 0.1234567)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1234567] and learning_rate(optimizer) == 0.1234567


FLIPS: dict[str, dict[str, Any]] = {
    "muon": {
        "lr": 1e-3, "momentum": 0.5, "nesterov": False, "weight_decay": 0.5, "ns_steps": 2, "adjust_lr_fn": "original",
    },
    "adafactor": {"lr": 1e-3, "beta2_decay": -0.2, "d": 2.0, "weight_decay": 0.5},
    "muon's adamw": {"adamw.lr": 1e-2, "adamw.betas": [0.5, 0.6], "adamw.eps": 1.0, "adamw.weight_decay": 0.5},
}  # fmt: skip
CHANGED = {"muon": "actor.0.weight", "adafactor": "actor.0.weight", "muon's adamw": "log_std"}
"""A parameter that the settings act on; for Muon and its AdamW they act on no other's."""


def stepped(file: str, **settings: Any) -> dict[str, Tensor]:
    config = algorithm_config(
        "ppo_clip", optimizer=file, **{f"optimizer.{key}": value for key, value in settings.items()}
    )
    flat = flatten_parameters(new_policy(config))
    step = optimizer_step(make_optimizer(config, flat), flat.vector)
    for gradient in gradients(flat):
        step(gradient.clone())
    return flat.named(flat.vector.detach())


@pytest.mark.parametrize(("case", "setting"), [(case, setting) for case in FLIPS for setting in FLIPS[case]])
def test_every_setting_matters(case: str, setting: str) -> None:
    file = case.partition("'")[0]
    plain, changed = stepped(file), stepped(file, **{setting: FLIPS[case][setting]})
    differing = {name for name, part in plain.items() if not part.equal(changed[name])}
    assert CHANGED[case] in differing
    if file == "muon":
        hidden = {"actor.0.weight", "critic.0.weight"}
        assert differing == (hidden if case == file else set(plain) - hidden)


def test_every_setting_of_these_files_is_flipped() -> None:
    for file in ("muon", "adafactor"):
        flipped = {key for case, settings in FLIPS.items() if case.partition("'")[0] == file for key in settings}
        shipped = make_config(optimizer=file).optimizer
        nested = {f"adamw.{key}" for key in shipped.get("adamw", {})}
        assert flipped == (set(shipped) | nested) - {"_target_", "adamw"}


# --- options ---------------------------------------------------------------------------------------------------------


def test_options_of_another_class_are_left_out_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    config = make_config(**{"optimizer._target_": "torch.optim.SGD"})
    with caplog.at_level(logging.INFO, "ppolab.learning.optimizer"):
        check_optimizer(config)
    (line,) = caplog.records
    assert line.getMessage() == "optimizer: torch.optim.SGD does not take betas=[0.9, 0.9999], eps=1e-05: left out"
    caplog.clear()
    group = make_optimizer(config, flatten_parameters(new_policy(config))).param_groups[0]
    assert group["lr"] == 6e-4 and group["fused"] and not caplog.records


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"+optimizer.momentum": 0.9}, r"optimizer\.momentum=0\.9: torch\.optim\.Adam has no such option"),
        ({"+optimizer.weight_deacy": 0.9}, r"optimizer\.weight_deacy=0\.9: .* did you mean 'weight_decay'"),
        ({"optimizer._target_": "torch.optim.SGD", "optimizer.betas": [0.8, 0.9]}, r"optimizer\.betas=\[0\.8, 0\.9\]"),
        ({"optimizer": "muon", "+optimizer.adamw.betass": [0.8, 0.9]}, r"torch\.optim\.Muon does not take .*betass"),
        ({"optimizer": "muon", "model.hidden_sizes": []}, r"no matrix to step; use optimizer=adamw"),
        ({"optimizer._target_": "torch.optim.Adafactor"}, r"optimizer=adafactor has options that it takes"),
        ({"optimizer": "adafactor", "optimizer.d": 0.5}, r"Adafactor does not take these settings: .*0\.5$"),
        ({"optimizer._target_": "torch.optim.Adamm"}, r"there is no such class; did you mean 'Adam'"),
    ],
)
def test_what_a_class_does_not_take_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_optimizer(make_config(**settings))


@pytest.mark.parametrize(("name", "reason"), [("LBFGS", "closure"), ("SparseAdam", "sparse"), ("Optimizer", "base")])
def test_what_cannot_work_is_refused_with_a_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"optimizer\._target_=torch\.optim\.{name}: cannot train here, .*{reason}"):
        make_config(**{"optimizer._target_": f"torch.optim.{name}"})


def test_the_tables_name_classes_that_there_are() -> None:
    assert set(LOOKS_AT_SHAPES) | set(UNUSABLE) <= set(CLASSES)
    assert not set(LOOKS_AT_SHAPES) & set(UNUSABLE)


def test_the_shipped_optimizers_can_be_made() -> None:
    assert {"own", *FILES.values()} == {path.stem for path in (config_folder("conf") / "optimizer").glob("*.yaml")}
    for name in FILES.values():
        check_optimizer(make_config(optimizer=name))
