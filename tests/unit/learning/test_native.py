"""The C++ code against the PyTorch code that it replaces."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import drawn, make_learner, ppo_objective, random_rollout, tiny_config
from torch import Tensor

from ppolab.config.schema import Config
from ppolab.core.observation_rows import RowLayout
from ppolab.learning.actor_critic import ACTIVATIONS as LAYERS
from ppolab.learning.actor_critic import ActorCritic, action_distribution, is_of_the_value
from ppolab.learning.algorithms.ppo_penalty import penalizing
from ppolab.learning.algorithms.unclipped import UNCLIPPED
from ppolab.learning.epoch import NativeEpoch, shuffled, stepwise_epoch
from ppolab.learning.flat_parameters import FlatParameters, flatten_parameters
from ppolab.learning.gradient import whole_gradient
from ppolab.learning.native import NativePolicy, NativeUpdate, library, native_policy
from ppolab.learning.native.library import NativeCodeError, compiler, library_problem, native_library
from ppolab.learning.native.policy import unknown_to_native
from ppolab.learning.native.structures import INTEGER, STRUCTURES
from ppolab.learning.normalization import FrozenScaling
from ppolab.learning.objective import LossTerms, NativeObjective, Samples, actor_critic_objective, value_objective
from ppolab.learning.optimizer import is_adam, make_optimizer
from ppolab.runtime.process_group import ALONE
from ppolab.training.acting import act

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
    "wide": {"model.hidden_sizes": [264, 150]},
    "shared": {"model.hidden_sizes": [24, 24], "model.trunk": "shared"},
    "relu": {"model.hidden_sizes": [32, 16], "model.activation": "relu"},
    "elu": {"model.hidden_sizes": [17, 5, 30], "model.activation": "elu"},
    "gelu": {"model.hidden_sizes": [17, 5, 30], "model.activation": "gelu"},
    "silu": {"model.hidden_sizes": [24, 20], "model.activation": "silu", "model.trunk": "shared"},
    "linear": {"model.hidden_sizes": []},
    "two sizes": {"model.actor_sizes": [9, 20], "model.critic_sizes": [40]},
    "linear actor": {"model.actor_sizes": [], "model.critic_sizes": [9, 7], "model.activation": "relu"},
}
ACTIVATIONS = sorted(LAYERS)
EVERY_TERM = {"entropy_coef": 0.02, "algorithm.value_clip": 0.2}
INPUTS = 11


def made(space: spaces.Space, **settings) -> tuple[ActorCritic, FlatParameters, Config]:
    """A policy far enough from the initial one that every term of the loss matters."""
    config = tiny_config("probe/Diary-v0", **settings)
    torch.manual_seed(0)
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(space), config.model, normalize=False)
    flat = flatten_parameters(policy)
    with torch.no_grad():
        flat.vector.add_(0.1 * torch.randn(flat.vector.shape))
    return policy, flat, config


def native_of(policy: ActorCritic, flat: FlatParameters) -> NativePolicy:
    native = native_policy(policy, flat)
    assert native is not None
    return native


def update_of(policy: ActorCritic, flat: FlatParameters, config: Config) -> NativeUpdate:
    """C++ on the objective of `algorithm=ppo_clip`."""
    objective = ppo_objective(policy, config).native
    assert objective is not None
    return NativeUpdate(native_of(policy, flat), objective)


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
    policy, flat, _ = made(SPACES["Box"], **NETWORKS[network])
    native = native_of(policy, flat)
    observations = 3 * torch.randn((rows, INPUTS))
    with torch.no_grad():
        parameters, values = policy(observations)
    for ours in (native(observations), (native.action_parameters(observations), native.values(observations))):
        torch.testing.assert_close(ours[0], parameters, rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(ours[1], values, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_extreme_inputs_equal_pytorch(activation: str) -> None:
    policy, flat, _ = made(SPACES["Box"], **{"model.activation": activation})
    native = native_of(policy, flat)
    observations = torch.tensor([0.0, 1e-6, -1e-3, 1e3, -1e3, 30.0])[:, None].expand(6, INPUTS).contiguous()
    with torch.no_grad():
        torch.testing.assert_close(native(observations), policy(observations), rtol=1e-5, atol=2e-5)
    assert native.values(torch.full((1, INPUTS), torch.nan)).isnan().all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_their_slopes_equal_pytorch_s_everywhere(activation: str) -> None:
    """Each hidden unit of the critic sees another number; value and gradient tell f and f' at it."""
    at = torch.cat([torch.linspace(-12, 12, 961), torch.logspace(-6, 3, 40), -torch.logspace(-6, 3, 39)])
    policy, flat, _ = made(SPACES["Box"], **{"model.activation": activation, "model.critic_sizes": [len(at)]})
    with torch.no_grad():
        policy.critic[0].weight[:, 0] = at
        policy.critic[0].bias.zero_()
        policy.value_head.weight.fill_(1.0)
        policy.value_head.bias.zero_()
    one = torch.zeros((1, INPUTS))
    one[0, 0] = 1.0
    native = NativeUpdate(native_of(policy, flat), value_objective(1.0, None).native)
    places = flat.named(native._gradient)
    points = at.double().requires_grad_()
    values = LAYERS[activation]()(points)
    (slopes,) = torch.autograd.grad(values.sum(), points)
    batch = random_samples(policy, 1)._replace(observations=one, returns=policy.values(one).detach() - 1.0)
    native.gradient(flat.vector.detach(), *batch)
    error = float(native_of(policy, flat).values(one) - batch.returns)  # the loss's derivative by the value
    assert error == pytest.approx(1.0, abs=1e-2)
    torch.testing.assert_close(places["value_head.weight"][0] / error, values.detach().float(), rtol=1e-6, atol=4e-7)
    torch.testing.assert_close(places["critic.0.bias"] / error, slopes.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("network", ["64-64", "wide"])
def test_a_row_does_not_depend_on_the_others(network: str) -> None:
    policy, flat, _ = made(SPACES["Box"], **NETWORKS[network])
    native = native_of(policy, flat)
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
    policy, flat, _ = made(SPACES[space], **NETWORKS["shared" if space == "Discrete" else "64-64"])
    native = native_of(policy, flat)
    rng = np.random.default_rng(0)
    scaling = FrozenScaling(rng.normal(size=INPUTS), rng.uniform(0.5, 20.0, INPUTS), RowLayout(INPUTS))
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
    policy, flat, _ = made(SPACES["Box"])
    native = native_of(policy, flat)
    observations = torch.randn((5, INPUTS))
    before = native.values(observations)
    with torch.no_grad():
        flat.vector.mul_(1.5)
        torch.testing.assert_close(native.values(observations), policy.values(observations), rtol=1e-5, atol=1e-5)
    assert not native.values(observations).equal(before)


def assert_same_gradient(policy: ActorCritic, flat: FlatParameters, config: Config, batch: Samples) -> None:
    native = update_of(policy, flat, config)
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
        update_of(*parts).gradient(parts[1].vector.detach(), *batch)[0].clone() for parts in (everything, changed)
    ]
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4


def penalized_gradients(space: str, weight: float, **settings) -> list[tuple[Tensor, Tensor]]:
    """In C++ and in PyTorch, of a policy that has moved away from the one that collected."""
    policy, flat, config = made(SPACES[space], algorithm="ppo_penalty", entropy_coef=0.02, **settings)
    batch = random_samples(policy, 150)
    with torch.no_grad():
        flat.vector.add_(0.05 * torch.randn(flat.vector.shape, generator=torch.Generator().manual_seed(2)))
    surrogate = penalizing(policy.distribution, torch.tensor(weight))
    objective = actor_critic_objective(policy.distribution, config, surrogate)
    native, eager = NativeUpdate(native_of(policy, flat), objective.native), whole_gradient(policy, flat, objective)
    vector = flat.vector.detach()
    results = [native.gradient(vector, *batch), eager(vector, *batch, *objective.inputs)]
    return [(gradient.clone(), terms.float()) for gradient, terms in results]


@pytest.mark.parametrize("network", ["64-64", "shared"])
@pytest.mark.parametrize("space", SPACES)
def test_a_penalty_on_the_divergence_equals_pytorch_and_matters(network: str, space: str) -> None:
    found = {weight: penalized_gradients(space, weight, **NETWORKS[network]) for weight in (0.0, 3.0)}
    for ours, theirs in found.values():
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=3e-6)
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=3e-6)
    assert (found[0.0][0][0] - found[3.0][0][0]).norm() > 0.1 * found[0.0][0][0].norm()


def test_the_weight_of_the_penalty_and_the_clip_range_are_read_when_they_are_used() -> None:
    policy, flat, _ = made(SPACES["Box"])
    batch = random_samples(policy, 50)
    clip, beta = torch.tensor(0.2, dtype=torch.float64), torch.tensor(1.0)
    with torch.no_grad():
        flat.vector.add_(0.05)
    native = NativeUpdate(native_of(policy, flat), NativeObjective(value_coef=0.5, clip=clip, penalty=beta))
    before = native.gradient(flat.vector.detach(), *batch)[0].clone()
    for tensor, value in ((beta, 2.0), (clip, 0.02)):
        tensor.fill_(value)
        after = native.gradient(flat.vector.detach(), *batch)[0].clone()
        assert (after - before).abs().max() > 1e-4
        before = after


@pytest.mark.parametrize("space", SPACES)
def test_without_clipping_the_gradient_equals_pytorch_s(space: str) -> None:
    policy, flat, config = made(SPACES[space], algorithm="unclipped", entropy_coef=0.02)
    batch = random_samples(policy, 150)
    objective = actor_critic_objective(policy.distribution, config, UNCLIPPED)
    native, eager = NativeUpdate(native_of(policy, flat), objective.native), whole_gradient(policy, flat, objective)
    ours, theirs = (function(flat.vector.detach(), *batch) for function in (native.gradient, eager))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(ours[1].float(), theirs[1], rtol=1e-4, atol=2e-6)
    assert LossTerms(*ours[1]).clip_fraction == 0  # nothing is clipped


@pytest.mark.parametrize("value_clip", [None, 0.2])
@pytest.mark.parametrize("network", ["64-64", "uneven", "linear", "two sizes"])
def test_the_value_function_alone_equals_pytorch(network: str, value_clip: float | None) -> None:
    policy, flat, _ = made(SPACES["Box"], **NETWORKS[network])
    batch, objective = random_samples(policy, 100), value_objective(1.5, value_clip)
    native, eager = NativeUpdate(native_of(policy, flat), objective.native), whole_gradient(policy, flat, objective)
    ours, theirs = (function(flat.vector.detach(), *batch) for function in (native.gradient, eager))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(LossTerms(*ours[1]).value.float(), LossTerms(*theirs[1]).value, rtol=1e-4, atol=2e-6)
    for gradient in (ours[0], theirs[0]):
        named = flat.named(gradient)
        assert {name for name, part in named.items() if part.any()} <= {n for n in named if is_of_the_value(n)}
        assert named["value_head.weight"].any()


def test_the_value_function_alone_shares_no_layers() -> None:
    policy, flat, _ = made(SPACES["Box"], **NETWORKS["shared"])
    with pytest.raises(AssertionError, match="shared trunk"):
        NativeUpdate(native_of(policy, flat), NativeObjective(value_coef=1.0, value_only=True))


@pytest.mark.parametrize("padding", [0, 9, 23])
def test_padding_has_no_influence(padding: int) -> None:
    policy, flat, config = made(SPACES["Box"], **EVERY_TERM)
    assert_same_gradient(policy, flat, config, random_samples(policy, 24, padding=padding))


def epochs(samples: Samples, policy: ActorCritic, flat: FlatParameters, config: Config, *, native: tuple[bool, ...]):
    """(parameters, Adam's state, terms, norms) after one epoch in C++ or in PyTorch for each entry of `native`."""
    optimizer = make_optimizer(config, flat)
    assert is_adam(optimizer)
    generator = torch.Generator().manual_seed(5)
    gradient = whole_gradient(policy, flat, ppo_objective(policy, config))
    choices = {
        True: NativeEpoch(update_of(policy, flat, config), flat.vector, optimizer, config),
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


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model.dropout": 0.1}, "dropout (model.dropout)"),
        ({"model.state_dependent_std": True}, "(model.state_dependent_std)"),
    ],
    ids=str,
)
def test_what_the_code_does_not_know_is_left_to_pytorch(settings: dict, reason: str) -> None:
    policy, flat, _ = made(SPACES["Box"], **settings)
    assert native_policy(policy, flat) is None
    assert reason in (unknown_to_native(policy, flat) or "")


def test_actions_of_several_kinds_are_left_to_pytorch() -> None:
    policy, flat, _ = made(spaces.Dict(amount=spaces.Box(-1, 1, (1,)), kind=spaces.Discrete(3)))
    assert native_policy(policy, flat) is None
    assert unknown_to_native(policy, flat) == "an action has parts of different kinds"
    policy, flat, _ = made(spaces.Tuple((spaces.Discrete(3), spaces.MultiDiscrete([2, 2]))))
    assert unknown_to_native(policy, flat) is None


def test_other_numbers_than_float32_are_left_to_pytorch() -> None:
    config = made(SPACES["Box"])[2]
    policy = ActorCritic(RowLayout(INPUTS), action_distribution(SPACES["Box"]), config.model, normalize=False).double()
    assert "torch.float64" in (unknown_to_native(policy, flatten_parameters(policy)) or "")


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


@pytest.mark.parametrize("network", ["64-64", "wide", "silu"])
def test_the_width_of_the_vectors_changes_no_number(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is one chain of multiply-adds with AVX2 as with AVX-512; without them there are none."""
    if library.instructions() not in library.INSTRUCTIONS:
        pytest.skip("the processor has neither")
    results = []
    for name in (library.instructions(), "AVX2"):
        monkeypatch.setattr(library, "instructions", lambda name=name: name)
        library._library_or_problem.cache_clear()
        policy, flat, config = made(SPACES["Box"], **NETWORKS[network], **EVERY_TERM, minibatch_size=80, num_envs=10)
        results.append(epochs(random_samples(policy, 150), policy, flat, config, native=(True, True)))
    library._library_or_problem.cache_clear()
    assert all(one.equal(two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AVX512", ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]),
        ("AVX2", ["-mavx2", "-mfma"]),
        ("DEFAULT", []),
    ],
)
def test_the_compiler_is_told_what_the_processor_has(
    name: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "instructions", lambda: name)
    assert [option for option in library._options() if option.startswith("-m")] == expected


@pytest.fixture
def fresh_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A process that has not compiled yet, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library._library_or_problem.cache_clear()
    yield
    library._library_or_problem.cache_clear()


@pytest.mark.usefixtures("fresh_library")
def test_without_a_compiler_pytorch_takes_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    policy, flat, _ = made(SPACES["Box"])
    assert native_policy(policy, flat) is None
    assert library_problem() == "there is no C++ compiler (g++ or clang++)"


@pytest.mark.usefixtures("fresh_library")
def test_a_compiler_that_fails_is_named_and_not_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken, tries = tmp_path / "c++", tmp_path / "tries"
    broken.write_text(f"#!/bin/sh\necho again >> {tries}\necho out of order >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    for _ in range(2):
        with pytest.raises(NativeCodeError, match=r"c\+\+ failed: out of order"):
            native_library()
    assert tries.read_text() == "again\n"
    assert not list((tmp_path / "ppolab").iterdir())


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_that_differs_between_the_languages_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(native_library()._name)

    class Longer(ctypes.Structure):
        _fields_ = [*STRUCTURES[name]._fields_, ("forgotten_in_cpp", INTEGER)]

    monkeypatch.setitem(STRUCTURES, name, Longer)
    size = ctypes.sizeof(Longer)
    with pytest.raises(NativeCodeError, match=f"structure {name} has {size - 8} bytes in C\\+\\+ and {size} in Python"):
        library._loaded(path)


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("text")
    with pytest.raises(NativeCodeError, match="cannot be loaded"):
        library._loaded(tmp_path / "x.so")


def test_a_cache_that_cannot_be_written_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    (tmp_path / "a file").write_text("")
    folder = library._cache_folder()
    assert folder.is_dir() and tmp_path not in folder.parents
