"""The C++ code against the PyTorch code that it replaces."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from helpers import drawn, make_learner, ppo_objective, random_rollout, tiny_config
from ppolab.config import Config
from ppolab.core.losses import penalized_surrogate, unclipped_surrogate
from ppolab.epoch import native_epoch, shuffled, stepwise_epoch
from ppolab.gradient import whole_gradient
from ppolab.native import NativePolicy, library, native_policy
from ppolab.native.library import NativeCodeError, compiler, native_library
from ppolab.normalization import FrozenScaling
from ppolab.objective import Samples, actor_critic_objective
from ppolab.parallel import ALONE
from ppolab.parameters import FlatParameters, flatten_parameters, is_adam, make_optimizer
from ppolab.policy import ActorCritic, action_distribution
from ppolab.rollout import act

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

SPACES: dict[str, spaces.Space] = {
    "Box": spaces.Box(-1, 1, (3,)),
    "Discrete": spaces.Discrete(4),
    "MultiDiscrete": spaces.MultiDiscrete([2, 5, 3]),
    "MultiBinary": spaces.MultiBinary(4),
}
NETWORKS: dict[str, dict] = {
    "64-64": {"model.hidden_sizes": [64, 64]},
    "uneven": {"model.hidden_sizes": [17, 5, 30]},
    "shared": {"model.hidden_sizes": [24, 24], "model.trunk": "shared"},
    "relu": {"model.hidden_sizes": [32, 16], "model.activation": "relu"},
    "linear": {"model.hidden_sizes": []},
}
EVERY_TERM = {"entropy_coef": 0.02, "algorithm.value_clip": 0.2}
INPUTS = 11


def made(space: spaces.Space, **settings) -> tuple[ActorCritic, FlatParameters, Config]:
    """A policy far enough from the initial one that every term of the loss matters."""
    config = tiny_config("probe/Diary-v0", **settings)
    torch.manual_seed(0)
    policy = ActorCritic(INPUTS, action_distribution(space), config.model, normalize=False)
    flat = flatten_parameters(policy)
    with torch.no_grad():
        flat.vector.add_(0.1 * torch.randn(flat.vector.shape))
    return policy, flat, config


def native_of(policy: ActorCritic, flat: FlatParameters, config: Config) -> NativePolicy:
    native = native_policy(policy, flat, config)
    assert native is not None
    return native


def random_samples(policy: ActorCritic, size: int, seed: int = 0, *, padding: int = 0) -> Samples:
    """Experience of a policy that has moved since; the last `padding` rows weigh nothing."""
    rng = torch.Generator().manual_seed(seed)
    observations = torch.randn((size, INPUTS), generator=rng)
    with torch.no_grad():
        parameters = policy(observations)[0]
        actions = drawn(policy.distribution, parameters, seed)
        log_probs = policy.distribution.log_prob(parameters, actions) + 0.3 * torch.randn(size, generator=rng)
    others = torch.randn((3, size), generator=rng)
    return Samples(observations, actions, parameters, log_probs, *others, (torch.arange(size) < size - padding).float())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rows", [1, 63, 64, 200])
def test_outputs_equal_pytorch(network: str, rows: int) -> None:
    policy, flat, config = made(SPACES["Box"], **NETWORKS[network])
    native = native_of(policy, flat, config)
    observations = 3 * torch.randn((rows, INPUTS))
    with torch.no_grad():
        parameters, values = policy(observations)
    for ours in (native(observations), (native.action_parameters(observations), native.values(observations))):
        torch.testing.assert_close(ours[0], parameters, rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(ours[1], values, rtol=1e-5, atol=2e-5)


def test_extreme_inputs_equal_pytorch() -> None:
    policy, flat, config = made(SPACES["Box"])
    native = native_of(policy, flat, config)
    observations = torch.tensor([0.0, 1e-6, -1e-3, 1e3, -1e3, 30.0])[:, None].expand(6, INPUTS).contiguous()
    with torch.no_grad():
        torch.testing.assert_close(native(observations), policy(observations), rtol=1e-5, atol=2e-5)
    assert native.values(torch.full((1, INPUTS), torch.nan)).isnan().all()


def test_a_row_does_not_depend_on_the_others() -> None:
    policy, flat, config = made(SPACES["Box"], **NETWORKS["64-64"])
    native = native_of(policy, flat, config)
    observations = torch.randn((150, INPUTS))
    together = native(observations)
    for size in (1, 7, 32, 75):
        parts = [native(part) for part in observations.split(size)]
        assert torch.cat([part[0] for part in parts]).equal(together[0])
        assert torch.cat([part[1] for part in parts]).equal(together[1])
    shaped = native(observations.view(10, 15, INPUTS))
    assert shaped[0].shape == (10, 15, 6) and shaped[1].flatten().equal(together[1])


@pytest.mark.parametrize("space", SPACES)
def test_actions_are_those_that_the_noise_draws(space: str) -> None:
    policy, flat, config = made(SPACES[space], **NETWORKS["shared" if space == "Discrete" else "64-64"])
    native = native_of(policy, flat, config)
    rng = np.random.default_rng(0)
    scaling = FrozenScaling(rng.normal(size=INPUTS), rng.uniform(0.5, 20.0, INPUTS))
    raw = rng.normal(size=(70, INPUTS))
    noise = policy.distribution.noise((70,), torch.Generator().manual_seed(0))
    results = []
    with torch.no_grad():
        for function in (native.act, partial(act, policy)):
            observations = torch.empty((70, INPUTS))
            actions = torch.empty((70, *policy.distribution.action_shape), dtype=policy.distribution.action_dtype)
            function(raw, scaling, noise, observations, actions)
            results.append((observations, actions))
    assert results[0][0].equal(results[1][0])
    assert (results[0][0].abs() == 10).any()  # the limit was reached
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=2e-5)


def test_parameters_are_read_when_they_are_used() -> None:
    policy, flat, config = made(SPACES["Box"])
    native = native_of(policy, flat, config)
    observations = torch.randn((5, INPUTS))
    before = native.values(observations)
    with torch.no_grad():
        flat.vector.mul_(1.5)
        torch.testing.assert_close(native.values(observations), policy.values(observations), rtol=1e-5, atol=1e-5)
    assert not native.values(observations).equal(before)


def assert_same_gradient(policy: ActorCritic, flat: FlatParameters, config: Config, batch: Samples) -> None:
    native = native_of(policy, flat, config)
    eager = whole_gradient(policy, flat, ppo_objective(policy, config))
    ours, theirs = (function(flat.vector.detach(), *batch) for function in (native.gradient, eager))
    assert theirs[0].norm() > 0.01
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(ours[1].float(), theirs[1], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("space", SPACES)
def test_gradient_and_terms_equal_pytorch(network: str, space: str) -> None:
    policy, flat, config = made(SPACES[space], **NETWORKS[network], **EVERY_TERM)
    assert_same_gradient(policy, flat, config, random_samples(policy, 150))


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm.value_clip": None}, {"entropy_coef": 0.0}, {"clip": 0.02},
        {"value_coef": 2.0},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("space", ["Box", "MultiDiscrete"])
def test_each_setting_equals_pytorch_and_matters(space: str, settings: dict) -> None:
    everything, changed = (made(SPACES[space], **(EVERY_TERM | more)) for more in ({}, settings))
    batch = random_samples(everything[0], 100)
    assert_same_gradient(*changed, batch)
    gradients = [
        native_of(*parts).gradient(parts[1].vector.detach(), *batch)[0].clone() for parts in (everything, changed)
    ]
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4


def penalized_gradients(space: str, weight: float, **settings) -> list[tuple[Tensor, Tensor]]:
    """In C++ and in PyTorch, of a policy that has moved away from the one that collected."""
    policy, flat, config = made(SPACES[space], algorithm="ppo_penalty", entropy_coef=0.02, **settings)
    batch = random_samples(policy, 150)
    with torch.no_grad():
        flat.vector.add_(0.05 * torch.randn(flat.vector.shape, generator=torch.Generator().manual_seed(2)))
    beta = torch.tensor(weight)
    native = native_of(policy, flat, config)
    native.penalize(beta)

    def surrogate(parameters: Tensor, log_ratio: Tensor, batch: Samples) -> Tensor:
        kl = policy.distribution.kl(batch.parameters, parameters)
        return penalized_surrogate(log_ratio, batch.advantages, kl, beta)

    eager = whole_gradient(policy, flat, actor_critic_objective(policy.distribution, config, surrogate))
    results = [function(flat.vector.detach(), *batch) for function in (native.gradient, eager)]
    return [(gradient.clone(), terms.float()) for gradient, terms in results]


@pytest.mark.parametrize("network", ["64-64", "shared"])
@pytest.mark.parametrize("space", SPACES)
def test_a_penalty_on_the_divergence_equals_pytorch_and_matters(network: str, space: str) -> None:
    found = {weight: penalized_gradients(space, weight, **NETWORKS[network]) for weight in (0.0, 3.0)}
    for ours, theirs in found.values():
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=3e-6)
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=3e-6)
    assert (found[0.0][0][0] - found[3.0][0][0]).norm() > 0.1 * found[0.0][0][0].norm()


def test_the_weight_of_the_penalty_is_read_when_it_is_used() -> None:
    policy, flat, config = made(SPACES["Box"], algorithm="ppo_penalty")
    native, batch, beta = native_of(policy, flat, config), random_samples(policy, 50), torch.tensor(1.0)
    with torch.no_grad():
        flat.vector.add_(0.05)
    native.penalize(beta)
    before = native.gradient(flat.vector.detach(), *batch)[0].clone()
    beta.fill_(2.0)
    assert (native.gradient(flat.vector.detach(), *batch)[0] - before).abs().max() > 1e-4


@pytest.mark.parametrize("space", SPACES)
def test_without_clipping_the_gradient_equals_pytorch_s(space: str) -> None:
    policy, flat, config = made(SPACES[space], algorithm="unclipped", entropy_coef=0.02)
    batch = random_samples(policy, 150)
    objective = actor_critic_objective(
        policy.distribution, config, lambda _, log_ratio, batch: unclipped_surrogate(log_ratio, batch.advantages)
    )
    ours, theirs = (
        function(flat.vector.detach(), *batch)
        for function in (native_of(policy, flat, config).gradient, whole_gradient(policy, flat, objective))
    )
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(ours[1].float(), theirs[1], rtol=1e-4, atol=2e-6)
    assert ours[1][3] == 0  # nothing is clipped


@pytest.mark.parametrize("padding", [0, 9, 23])
def test_padding_has_no_influence(padding: int) -> None:
    policy, flat, config = made(SPACES["Box"], **EVERY_TERM)
    assert_same_gradient(policy, flat, config, random_samples(policy, 24, padding=padding))


def epochs(samples: Samples, policy: ActorCritic, flat: FlatParameters, config: Config, *, native: tuple[bool, ...]):
    """(parameters, Adam's state, terms, norms) after one epoch in C++ or in PyTorch for each entry of `native`."""
    optimizer = make_optimizer(config, flat.vector)
    assert is_adam(optimizer)
    generator = torch.Generator().manual_seed(5)
    gradient = whole_gradient(policy, flat, ppo_objective(policy, config))
    choices = {
        True: native_epoch(native_of(policy, flat, config), flat.vector, optimizer, config),
        False: stepwise_epoch(gradient, flat.vector, optimizer, config, ALONE),
    }
    owners = torch.zeros(len(samples.weights), dtype=torch.int64)
    results = [choices[choice](samples, shuffled(owners, 0, config.minibatch_size, generator)) for choice in native]
    terms, norms = (torch.cat([part.float() for part in parts]) for parts in zip(*results, strict=True))
    state = optimizer.state[flat.vector]
    return flat.vector.detach().clone(), state["step"], state["exp_avg"], state["exp_avg_sq"], terms, norms


OPTIMIZERS: dict[str, dict] = {
    "adam": {},
    "weight decay": {"optimizer.weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "optimizer.weight_decay": 0.1},
    "betas": {"optimizer.betas": [0.5, 0.9]},
    "eps": {"optimizer.eps": 0.1},
    "maximize": {"+optimizer.maximize": True},
    "no clipping": {"max_grad_norm": 0.0},
}


@pytest.mark.parametrize("trunk", ["separate", "shared"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_epochs_of_steps_equal_pytorch_s_adam(optimizer: str, trunk: str) -> None:
    settings = {"minibatch_size": 16, "optimizer.lr": 3e-3, "max_grad_norm": 0.3, "model.trunk": trunk}
    settings |= EVERY_TERM | OPTIMIZERS[optimizer]
    before = made(SPACES["Box"], **settings)[1].vector.detach()
    samples = random_samples(made(SPACES["Box"], **settings)[0], 101)  # sizes 15 and 14
    theirs = epochs(samples, *made(SPACES["Box"], **settings), native=(False, False, False))
    assert theirs[1] == 21
    assert (theirs[0] - before).abs().max() > 1e-3
    for native in ((True, True, True), (True, False, True)):  # the state is shared, so they may take turns
        ours = epochs(samples, *made(SPACES["Box"], **settings), native=native)
        assert ours[1] == theirs[1]
        for mine, torchs in zip(ours[2:], theirs[2:], strict=True):
            torch.testing.assert_close(mine, torchs, rtol=2e-3, atol=2e-5)
        torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=2e-4)


def test_two_threads_change_nothing() -> None:
    settings = {"minibatch_size": 16, "model.hidden_sizes": [64, 64], **EVERY_TERM}
    samples = random_samples(made(SPACES["Box"], **settings)[0], 500)
    alone, both = (
        epochs(samples, *made(SPACES["Box"], **settings, **{"trainer.threads": threads}), native=(True, True))
        for threads in (1, 2)
    )
    assert all(one.equal(two) for one, two in zip(alone, both, strict=True))


@pytest.mark.parametrize("settings", [{"model.activation": "gelu"}, {"model.dropout": 0.1}], ids=str)
def test_what_the_code_does_not_know_is_left_to_pytorch(settings: dict) -> None:
    assert native_policy(*made(SPACES["Box"], **settings)) is None


def test_other_optimizers_step_on_the_same_gradient() -> None:
    settings = {"optimizer": "sgd", "minibatch_size": 8, "epochs": 2}
    results: list[Tensor] = []
    for native in (True, False):
        policy, flat, config = made(SPACES["Box"], **settings)
        rollout = random_rollout(policy, INPUTS)
        learner, flat = make_learner(policy, config, native=native)
        learner.update(rollout, rollout.rewards)
        results.append(flat.vector.detach().clone())
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


def test_without_a_compiler_pytorch_takes_over_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    native_library.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert native_policy(*made(SPACES["Box"])) is None
        assert "there is no C++ compiler" in caplog.text
    finally:
        native_library.cache_clear()


def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", str(broken))
    native_library.cache_clear()
    try:
        with pytest.raises(NativeCodeError, match=r"c\+\+ failed: out of order"):
            native_library()
        assert not list((tmp_path / "ppolab").iterdir())
    finally:
        native_library.cache_clear()


def test_a_cache_that_cannot_be_written_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    (tmp_path / "a file").write_text("")
    folder = library._cache_folder()
    assert folder.is_dir() and tmp_path not in folder.parents
