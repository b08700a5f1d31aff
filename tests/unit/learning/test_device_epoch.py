"""Epochs that never wait for the device, of one run or of several at once, beside the same epochs step by step."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import torch
from as_on_a_gpu import META, AsOnAGpu
from gradients import BOTH, BOX, DISCRETE, INPUTS, config_with, new_policy, random_batch
from gymnasium import spaces
from helpers import make_context, ppo_objective, random_rollout
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.core.adam import AdamSettings, Stepped, adam_step
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.device_epoch import DeviceEpoch
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.gradient import gradient_of_members, whole_gradient
from ppolab.learning.interface import UpdateStats
from ppolab.learning.learner import Learner
from ppolab.learning.members import epoch_of, updated_together
from ppolab.learning.objective import Samples
from ppolab.learning.optimizer import set_learning_rate
from ppolab.learning.rollout import Rollout

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "choices": {},
    "a shared trunk": {"model.trunk": "shared"},
    "no clipping": {"max_grad_norm": 0.0},
    "without recomputing": {"recompute_advantages": False},
    "stopped early": {"target_kl": 1e-3, "optimizer.lr": 3e-3},
    "rolled back": {"target_kl": 0.01, "optimizer.lr": 1e-2},
    "AdamW": {"optimizer": "adamw", "optimizer.weight_decay": 0.1, "optimizer.lr": 3e-3},
    "schedules": {"entropy_coef": 0.1, "entropy_schedule": "linear", "algorithm.clip_schedule": "linear"},
    "a penalty": {"algorithm": "ppo_penalty", "algorithm.d_targ": 0.01},
    "the value function alone": {"algorithm.value_epochs": 5, "target_kl": 1e-3, "optimizer.lr": 3e-3},
    "one step": {"algorithm": "a2c"},
    "scaled values": {"normalize_values": True},
}
"""What runs code of its own."""
RATES = (1.0, 4.0, 0.3)
"""Members' learning rates, so that each stops at a step of its own."""


@dataclass
class Trained:
    """A learner with what it changes."""

    learner: Learner
    policy: ActorCritic

    @property
    def vector(self) -> Tensor:
        return self.learner.context.flat.vector.detach()

    @property
    def adam(self) -> dict[str, Tensor]:
        return self.learner.context.optimizer.state[self.learner.context.flat.vector]


def made(config: Config, space: spaces.Space[Any], seed: int) -> Trained:
    policy = new_policy(config, space, seed)
    context = make_context(policy, config, seed=seed)
    set_learning_rate(context.optimizer, config.optimizer["lr"] * RATES[seed])
    learner = make_algorithm(context)
    assert isinstance(learner, Learner)
    return Trained(learner, policy)


def rollouts_of(trained: Trained, seed: int) -> Iterator[Rollout]:
    """Two rollouts, which have different numbers of samples."""
    for index in range(2):
        yield random_rollout(trained.policy, INPUTS, steps=16, seed=10 * seed + index, ends=0.1 + 0.05 * index)


def case(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, spaces.Space[Any]]:
    monkeypatch.setattr("ppolab.learning.learner.KL_SAMPLES", 16)
    if name == "rolled back":
        monkeypatch.setattr("ppolab.learning.learner.broken_kl", lambda _target: 0.016)
    config = config_with(rollout_steps=16, epochs=2, **SETTINGS[name])
    return config, DISCRETE if name == "choices" else BOX


def alone(trained: Trained, seed: int, *, on_device: bool) -> list[UpdateStats]:
    if on_device:
        trained.learner._run_epoch = epoch_of([trained.learner])
    return [
        trained.learner.update(rollout, rollout.rewards, 0.25 * index)
        for index, rollout in enumerate(rollouts_of(trained, seed))
    ]


def assert_alike(ours: Trained, theirs: Trained, before: Tensor) -> None:
    assert not torch.allclose(theirs.vector, before, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.vector, theirs.vector, **CLOSE)
    for name in ("step", "exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(ours.adam[name], theirs.adam[name], **CLOSE)


def assert_same_stats(ours: list[UpdateStats], theirs: list[UpdateStats]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.steps, mine.epochs) == (other.steps, other.epochs)
        assert plain(mine) == pytest.approx(plain(other), rel=1e-3, abs=1e-5)


def plain(stats: UpdateStats) -> dict[str, float]:
    values = asdict(stats)
    return {**values.pop("extras"), **values}


@pytest.mark.parametrize("name", SETTINGS)
def test_an_update_is_the_one_that_is_made_step_by_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, space = case(name, monkeypatch)
    ours, theirs = made(config, space, 0), made(config, space, 0)
    before = theirs.vector.clone()
    expected = alone(theirs, 0, on_device=False)
    assert_same_stats(alone(ours, 0, on_device=True), expected)
    assert_alike(ours, theirs, before)
    assert (expected[0].epochs < 2) == (config.target_kl is not None or config.algorithm["name"] == "a2c")
    if name == "rolled back":
        assert expected[0].steps > expected[0].epochs * 8


@pytest.mark.parametrize("name", SETTINGS)
def test_three_members_at_once_are_three_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, space = case(name, monkeypatch)
    together = [made(config, space, seed) for seed in range(3)]
    single = [made(config, space, seed) for seed in range(3)]
    before = [each.vector.clone() for each in single]
    learners = [each.learner for each in together]
    epoch, found = epoch_of(learners), []
    for index, rollouts in enumerate(
        zip(*(rollouts_of(each, seed) for seed, each in enumerate(together)), strict=True)
    ):
        updates = [
            learner.updating(rollout, rollout.rewards, 0.25 * index)
            for learner, rollout in zip(learners, rollouts, strict=True)
        ]
        found.append(updated_together(epoch, learners, updates))
    expected = [alone(each, seed, on_device=False) for seed, each in enumerate(single)]
    for seed in range(3):
        assert_same_stats([stats[seed] for stats in found if stats[seed] is not None], expected[seed])
        assert_alike(together[seed], single[seed], before[seed])
    if name in ("stopped early", "rolled back"):
        assert len({stats[0].steps for stats in expected}) > 1, "they should stop at different steps"


def test_a_member_that_has_stopped_is_not_touched_by_the_steps_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    config, space = case("defaults", monkeypatch)
    together = [made(config, space, seed) for seed in range(2)]
    epoch = epoch_of([each.learner for each in together])
    passes = []
    for seed, each in enumerate(together):
        rollout, _ = rollouts_of(each, seed)
        passes.append(next(each.learner.updating(rollout, rollout.rewards, 0.0)))
    before = [each.vector.clone() for each in together]
    steps = epoch.of_members([None, passes[1]])
    assert steps[0] is None and steps[1] is not None and len(steps[1].terms) == len(passes[1].order.sizes)
    assert torch.equal(together[0].vector, before[0]) and not together[0].adam["step"]
    assert not torch.equal(together[1].vector, before[1])


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_how_many_steps_are_one_graph_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config, space = case("stopped early", monkeypatch)
    whole, cut = made(config, space, 0), made(config, space, 0)
    expected = alone(whole, 0, on_device=True)
    monkeypatch.setattr("ppolab.learning.device_epoch.STEPS_AT_ONCE", chunk)
    assert alone(cut, 0, on_device=True) == expected
    assert torch.equal(cut.vector, whole.vector)


def test_steps_that_are_replayed_beyond_the_end_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a graph has a fixed number of steps, a GPU makes all of them."""
    config, space = case("stopped early", monkeypatch)
    usual, padded = made(config, space, 0), made(config, space, 0)
    expected = alone(usual, 0, on_device=True)
    make = DeviceEpoch._make_steps
    monkeypatch.setattr(DeviceEpoch, "_make_steps", lambda self, _count: make(self, self._chunk))
    monkeypatch.setattr("ppolab.learning.device_epoch.STEPS_AT_ONCE", 6)
    assert alone(padded, 0, on_device=True) == expected
    assert torch.equal(padded.vector, usual.vector)


def on_meta(samples: Samples) -> Samples:
    return Samples(*(None if each is None else each.to(META) for each in samples))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", [*SETTINGS, "all kinds of actions"])
def test_steps_do_nothing_that_a_cuda_graph_could_not_hold(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, space = case(name if name in SETTINGS else "defaults", monkeypatch)
    space = space if name in SETTINGS else BOTH
    policies = [new_policy(config, space, seed).to(META) for seed in range(count)]
    epoch = epoch_of([_epochs_of(make_algorithm(make_context(each, config))) for each in policies])
    samples = random_batch(new_policy(config, space), config.batch_size, 0)
    epoch._inputs = epoch._no_inputs(on_meta(samples))
    assert epoch._state.vector.device == META
    with torch.no_grad(), AsOnAGpu() as gpu:
        epoch._make_steps(epoch._chunk)
    assert gpu.count > 50 and not gpu.problems


def _epochs_of(learner: object) -> Learner:
    assert isinstance(learner, Learner)
    return learner


WRONG: dict[str, Callable[[Tensor], object]] = {
    "a copy": lambda rows: rows.copy_(torch.ones(3)),
    "a number that is copied": lambda rows: rows.copy_(torch.tensor(1.0)),
    "an index": lambda rows: rows[torch.tensor([0, 1])],
    "a flag that is asked for": lambda rows: bool(rows.any()),
    "a choice of rows": lambda rows: rows[rows > 0],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_cuda_graph_could_not_hold_is_noticed(name: str) -> None:
    rows = torch.ones(3, device=META)
    gpu = AsOnAGpu()
    with contextlib.suppress(RuntimeError, NotImplementedError), gpu:  # there are no numbers on `meta` to be asked for
        WRONG[name](rows)
        assert gpu.problems
    with AsOnAGpu() as right:
        rows.mul_(2.0).add_(torch.tensor(1.0))
    assert not right.problems


@pytest.mark.parametrize("count", [1, 3])
def test_the_gradients_of_members_are_those_of_each(count: int) -> None:
    config = config_with()
    policies = [new_policy(config, BOX, seed) for seed in range(count)]
    flats = [flatten_parameters(policy) for policy in policies]
    batches = [random_batch(policy, 12, seed) for seed, policy in enumerate(policies)]
    columns = [torch.stack(column) for column in list(zip(*batches, strict=True))[:8]]
    objective = ppo_objective(policies[0], config)
    gradient = gradient_of_members(policies[0], flats[0], objective, count)
    slopes, terms = gradient(torch.stack([flat.vector.detach() for flat in flats]), *columns, None, None)
    for index, (policy, flat, batch) in enumerate(zip(policies, flats, batches, strict=True)):
        expected = whole_gradient(policy, flat, objective)(flat.vector.detach(), *batch)
        torch.testing.assert_close(slopes[index], expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(terms[index], expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("kind", "decay"), [("Adam", 0.0), ("Adam", 0.1), ("AdamW", 0.1)])
def test_steps_of_adam_are_those_of_pytorch(kind: str, decay: float, maximize: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    vectors = torch.randn((2, 7), generator=rng)
    gradients = torch.randn((5, 2, 7), generator=rng)
    rates = torch.tensor([1e-2, 3e-1], dtype=torch.float64)
    settings = AdamSettings((0.8, 0.99), 1e-5, decay, kind == "AdamW", maximize)
    now = Stepped(vectors.clone(), torch.zeros(2, 7), torch.zeros(2, 7), torch.zeros(2))
    for gradient in gradients:
        now = adam_step(now, gradient, rates, settings)
    for index, rate in enumerate(rates.tolist()):
        own = torch.nn.Parameter(vectors[index].clone())
        optimizer = getattr(torch.optim, kind)(
            [own], lr=rate, betas=settings.betas, eps=settings.eps, weight_decay=decay, maximize=maximize
        )
        for gradient in gradients:
            own.grad = gradient[index]
            optimizer.step()
        torch.testing.assert_close(now.vector[index], own.detach(), rtol=1e-5, atol=1e-6)
        assert now.steps[index] == 5


def test_copies_of_a_learner_go_on_from_a_stored_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint puts other tensors into the optimizer, which the next epoch must see."""
    config, space = case("defaults", monkeypatch)
    trained = made(config, space, 0)
    alone(trained, 0, on_device=True)
    state, vector = copy.deepcopy(trained.learner.context.optimizer.state_dict()), trained.vector.clone()
    twin = made(config, space, 0)
    alone(twin, 0, on_device=True)
    alone(twin, 1, on_device=True)
    twin.vector.copy_(vector)
    twin.learner.context.optimizer.load_state_dict(state)
    for each in (trained, twin):
        each.learner.context.generator.manual_seed(0)
        rollout, _ = rollouts_of(trained, 2)
    results = [each.learner.update(rollout, rollout.rewards) for each in (trained, twin)]
    assert results[0] == results[1] and torch.equal(trained.vector, twin.vector)
