"""Optimizers of the user's own: their steps, their state in a checkpoint, and what is wrong with those that fail."""

from __future__ import annotations

import copy
import io
import logging
from typing import Any

import probe_envs  # noqa: F401 -- registers probe/Diary-v0
import pytest
import sample_optimizers
import torch
import torch._dynamo  # the first step of most optimizers imports it, which takes seconds
from gradients import INPUTS, algorithm_config, new_policy
from helpers import make_config, make_context, random_rollout
from modules import trained_module, whole_and_resumed
from small_runs import small_config
from torch import Tensor

from ppolab.config.algorithms import algorithm_names
from ppolab.config.schema import Config
from ppolab.errors import ConfigError, OptimizerError
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.flat_parameters import FlatParameters, flatten_parameters
from ppolab.learning.optimizer import check_optimizer, make_optimizer, optimizer_step
from ppolab.learning.shaped_optimizer import ShapedOptimizer
from ppolab.learning.update_path import _epoch_problem


def config_of(name: str, algorithm: str = "ppo_clip", **settings: Any) -> Config:
    own = {"optimizer": "own", "optimizer._target_": f"sample_optimizers:{name}", "optimizer.lr": 1e-2}
    return algorithm_config(algorithm, **(own | settings))


def gradients(flat: FlatParameters, count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(flat.vector.shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "on_vector"), [("Lion", False), ("FlatLion", True), ("Normalized", False), ("Muon", False)]
)
def test_steps_are_those_of_an_ordinary_module(name: str, on_vector: bool) -> None:
    config = config_of(name)
    policy, ordinary = new_policy(config), new_policy(config)
    flat = flatten_parameters(policy)
    optimizer = make_optimizer(config, flat)
    assert isinstance(optimizer, ShapedOptimizer) != on_vector
    other = getattr(sample_optimizers, name)(ordinary.parameters(), lr=1e-2)
    step = optimizer_step(optimizer, flat.vector)
    for gradient in gradients(flat):
        step(gradient.clone())
        for parameter, part in zip(ordinary.parameters(), flat.named(gradient).values(), strict=True):
            parameter.grad = part.clone()
        other.step()
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in ordinary.parameters()])
    torch.testing.assert_close(flat.vector.detach(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["Lion", "FlatLion"])
@pytest.mark.parametrize("algorithm", algorithm_names())
def test_every_algorithm_trains_with_one(algorithm: str, name: str) -> None:
    config = config_of(name, algorithm)
    context = make_context(new_policy(config), config)
    rollout = random_rollout(context.policy, INPUTS)
    before = context.flat.vector.detach().clone()
    stats = make_algorithm(context).update(rollout, rollout.rewards)
    assert stats.value_loss > 0
    after = context.flat.vector.detach()
    assert after.isfinite().all() and (after != before).any()
    assert "this is sample_optimizers:" in (_epoch_problem(context, context.optimizer) or "")


@pytest.mark.parametrize("name", ["Lion", "FlatLion", "Noisy"])
def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(name: str) -> None:
    config = config_of(name)

    def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
        file = io.BytesIO()
        torch.save(state["optimizer"], file)
        file.seek(0)
        return copy.deepcopy({**state, "optimizer": torch.load(file, weights_only=True)})

    whole, resumed = whole_and_resumed(config, through_a_file)
    assert whole.equal(resumed)


def test_arguments_not_given_have_the_class_s_defaults() -> None:
    optimizer = make_optimizer(config_of("Lion"), flatten_parameters(new_policy(config_of("Lion"))))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-2, (0.9, 0.99), 0.0)
    given = config_of("Lion", **{"optimizer.weight_decay": 0.1})
    assert make_optimizer(given, flatten_parameters(new_policy(given))).param_groups[0]["weight_decay"] == 0.1


def test_a_class_that_takes_anything_gets_it() -> None:
    config = config_of("Anything", **{"optimizer.depth": 3})
    optimizer = make_optimizer(config, flatten_parameters(new_policy(config)))
    assert isinstance(optimizer, ShapedOptimizer) and optimizer._optimizers[0].others == {"depth": 3}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["Lion", "FlatLion", "Normalized", "Noisy"])
def test_what_can_train_is_not_spoken_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with caplog.at_level(logging.INFO):
        check_optimizer(config_of(name))
    assert not caplog.records and torch.get_rng_state().equal(before)


def test_a_state_that_does_not_go_on_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_optimizer(config_of("CountsElsewhere"))
    (line,) = caplog.records
    assert line.getMessage().startswith(
        "optimizer.class=sample_optimizers:CountsElsewhere: after its state was stored and loaded it makes other steps"
    )


MISTAKES = {
    "Lyon": "the module sample_optimizers has no Lyon; did you mean 'Lion'?",
    "no_class": "must be a class that derives from torch.optim.Optimizer, and is a function",
    "NeedsClosure": "its step() needs the loss again within a step (a closure)",
    "Raises": "its step() raised RuntimeError: wants sparse gradients (",
    "Rebinds": "its step() puts a new tensor in place of a parameter; change parameters in place",
    "WithoutRate": "its parameter groups have no lr, which a schedule changes",
    "Explodes": "its steps along finite gradients are not finite",
    "Unstorable": "its state_dict() holds something else than tensors, numbers, texts, lists and dicts, which "
    "checkpoints cannot hold: UnpicklingError: Unsupported global: GLOBAL sample_optimizers.Lion",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_train_is_told_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_optimizer(config_of(name))
    told = str(raised.value)
    assert told.startswith(f"optimizer.class=sample_optimizers:{name}: {MISTAKES[name]}") and "\n" not in told


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"+optimizer.rho": 1}, "optimizer.rho=1: sample_optimizers:Lion has no such option; leave it out, or use one "
         "of betas, lr, weight_decay"),
        ({"+optimizer.betas": [2, 0.9]}, "optimizer.class=sample_optimizers:Lion: making it raised ValueError: betas"),
    ],
)  # fmt: skip
def test_arguments_that_it_does_not_take_are_named(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_optimizer(config_of("Lion", **settings))
    assert str(raised.value).startswith(told)


def test_the_file_for_one_needs_a_class_and_a_learning_rate_above_zero() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.lr=0: must be greater than 0"):
        make_config("optimizer=own", **{"optimizer._target_": "a:B", "optimizer.lr": 0})
    with pytest.raises(ConfigError, match=r"^optimizer=own: needs a class, such as optimizer\.class="):
        make_config("optimizer=own")


def test_a_learning_rate_that_nobody_chose_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        check_optimizer(make_config("optimizer=own", **{"optimizer._target_": "sample_optimizers:Lion"}))
    assert [record.getMessage() for record in caplog.records] == [
        "optimizer.lr=0.0003 is the default here, and that of sample_optimizers:Lion is 0.0001; set optimizer.lr to "
        "choose"
    ]


@pytest.mark.parametrize("name", ["BreaksLate", "FlatBreaksLate"])
@pytest.mark.parametrize("algorithm", ["ppo_clip", "vpg"])
def test_what_one_raises_in_the_middle_of_a_run_is_one_line_with_its_place(algorithm: str, name: str) -> None:
    settings = {"algorithm": algorithm, "optimizer": "own", "optimizer._target_": f"sample_optimizers:{name}"}
    with pytest.raises(OptimizerError) as raised:
        trained_module(small_config(**settings), 12)
    told = str(raised.value)
    expected = f"optimizer.class=sample_optimizers:{name}: its step() raised LookupError: no such direction ("
    assert told.startswith(expected) and "sample_optimizers.py, line " in told and "\n" not in told
    assert isinstance(raised.value.__cause__, LookupError)
