"""What computes an update, and the line of the log that says why it is not all C++."""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gradients import algorithm_config, new_policy
from helpers import make_context, make_learner

from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.interface import LearnerContext
from ppolab.learning.learner import Learner
from ppolab.learning.native import library
from ppolab.learning.native.library import NativeCodeError, compiler, instructions
from ppolab.learning.objective import actor_critic_objective
from ppolab.learning.policy_step_learner import SeparateLearner
from ppolab.learning.update_path import UpdatePath, on_device, update_path
from ppolab.runtime.process_group import ProcessGroup

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


def context_of(name: str = "ppo_clip", *, native: bool = True, **settings: Any) -> LearnerContext:
    config = algorithm_config(name, **({"compile": "auto"} | settings))
    return make_context(new_policy(config), config, native=native)


def path_of(context: LearnerContext) -> UpdatePath:
    learner = make_algorithm(context)
    if isinstance(learner, SeparateLearner):
        return learner._value_regression.path
    assert isinstance(learner, Learner)
    objective = actor_critic_objective(context.policy.distribution, context.config, learner.surrogate)
    return update_path(context, objective, context.optimizer)


@pytest.mark.parametrize("name", ["ppo_clip", "ppo_penalty", "unclipped", "vpg", "npg", "trpo"])
def test_the_shipped_algorithms_are_all_c_plus_plus_and_say_nothing(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert path_of(context_of(name)) == UpdatePath(gradients_in_native=True, epochs_in_native=True)
    assert not caplog.records


def test_the_file_is_told_what_the_c_plus_plus_code_computes_with(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "ppolab.learning.update_path"):
        path_of(context_of())
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ppolab.learning.update_path"]
    assert line.startswith(f"C++ computes the update, with {instructions()} and its own products of matrices")


OWN = {"model.network": "sample_networks:Residual", "model.hidden_sizes": [64, 64]}
REASONS: dict[str, tuple[dict[str, Any], bool, str]] = {
    "own network": ({"native": False, **OWN}, False, "model.network=sample_networks:Residual is a network of your own"),
    "own optimizer": (
        {"optimizer": "own", "optimizer._target_": "sample_optimizers:Lion"},
        True,
        "this is sample_optimizers:Lion",
    ),
    "surrogate": ({"name": "a2c"}, False, "the C++ code does not know the surrogate of algorithm=a2c"),
    "compile=false": ({"native": False, "compile": "False"}, False, "compile=false asks for it"),
    "dropout": ({"native": False, "model.dropout": 0.1}, False, "model.dropout"),
    "deviations": ({"native": False, "model.state_dependent_std": True}, False, "model.state_dependent_std"),
    "optimizer": ({"optimizer": "sgd"}, True, "this is torch.optim.SGD"),
    "options": ({"+optimizer.amsgrad": True}, True, "fused, without amsgrad"),
    "value function": ({"name": "vpg", "optimizer": "rmsprop"}, True, "this is torch.optim.RMSprop"),
}


ONE_VECTOR = "1.1 to 1.9 times slower than all in C++"
COSTS = {"optimizer": ONE_VECTOR, "options": ONE_VECTOR, "value function": ONE_VECTOR}
COSTS["own optimizer"] = "2.1 to 6.1 times slower than all in C++"
OTHERS = "4 to 16 times slower than the C++ code"


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_is_named_in_one_line(case: str, caplog: pytest.LogCaptureFixture) -> None:
    settings, gradients, reason = REASONS[case]
    context = context_of(**settings)
    with caplog.at_level(logging.DEBUG, "ppolab.learning.update_path"):
        path = path_of(context)
    assert (path.gradients_in_native, path.epochs_in_native) == (gradients, False)
    assert path.reason is not None and reason in path.reason
    (line,) = [record for record in caplog.records if record.name == "ppolab.learning.update_path"]
    what = "C++ computes the gradients, PyTorch makes the steps" if gradients else "PyTorch computes the update"
    assert line.getMessage() == f"{what}, with the shipped settings {COSTS.get(case, OTHERS)}, since {path.reason}"
    assert line.levelno == (logging.DEBUG if case == "compile=false" else logging.INFO)  # what was asked for is no news


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ({}, True),
        ({"name": "a2c"}, True),
        (OWN, False),
        ({"optimizer": "sgd"}, False),
        ({"model.memory": "gru"}, False),
        ({"name": "my_package:make"}, False),
    ],
)
def test_epochs_of_shipped_code_alone_stay_on_a_gpu(settings: dict[str, Any], stays: bool) -> None:
    """A CUDA graph repeats nothing that a user's code does on the processor, and cannot wait for the device."""
    others = {key: value for key, value in settings.items() if value != "my_package:make"}
    context = context_of(native=False, **others)
    if settings != others:
        algorithm = {**context.config.algorithm, **settings}
        context = dataclasses.replace(context, config=dataclasses.replace(context.config, algorithm=algorithm))
    assert not on_device(context, context.optimizer)
    gpu: Any = SimpleNamespace(vector=SimpleNamespace(is_cuda=True))
    assert on_device(dataclasses.replace(context, flat=gpu), context.optimizer) == stays


def test_several_processes_step_one_by_one_and_the_first_says_so(caplog: pytest.LogCaptureFixture) -> None:
    for rank, lines in ((0, 1), (1, 0)):
        caplog.clear()
        context = dataclasses.replace(context_of(), group=ProcessGroup(rank, 2))
        with caplog.at_level(logging.INFO, "ppolab.learning.update_path"):
            path = path_of(context)
        assert path.gradients_in_native and not path.epochs_in_native
        assert path.reason == "2 processes add up their gradients before every step"
        assert len(caplog.records) == lines


def test_what_is_compiled_is_less_slow(caplog: pytest.LogCaptureFixture) -> None:
    settings = {"native": False, "model.dropout": 0.1}
    for steps, compiled in ((1000, False), (10**9, True)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "ppolab"):
            path = path_of(context_of(total_steps=steps, **settings))
        cost = "1.6 to 3.4" if compiled else "4 to 16"
        assert path.cost == f"with the shipped settings {cost} times slower than the C++ code"
        told = [record.getMessage() for record in caplog.records]
        assert (
            any(line.startswith("compile=auto: not compiling, since the run is too short") for line in told) != compiled
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
def test_a_gpu_is_a_reason() -> None:
    config = algorithm_config("ppo_clip", compile="auto")
    assert "of type cuda" in (path_of(make_context(new_policy(config).to("cuda"), config)).reason or "")


def test_without_a_compiler_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "_library_or_problem", lambda: NativeCodeError("there is no C++ compiler"))
    config = algorithm_config("ppo_clip", compile="auto")
    with caplog.at_level(logging.WARNING, "ppolab.learning.update_path"):
        make_learner(new_policy(config), config)
    (line,) = caplog.records
    assert line.getMessage().endswith("since there is no C++ compiler")
