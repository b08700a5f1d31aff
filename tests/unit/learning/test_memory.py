"""Policies with memory: the recurrent layers, the states of a rollout, the sequences of an update."""

from __future__ import annotations

import itertools
from typing import Any

import probe_envs  # noqa: F401
import pytest
import torch
from gradients import needs_compiler
from helpers import make_collector, make_context, make_env, make_policy, ppo_objective, tiny_config, train
from torch import Tensor, nn

from ppolab.config.schema import Config
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.epoch import minibatches_of_sequences, shuffled, with_standardized_advantages
from ppolab.learning.experience import Experience, shared_facts
from ppolab.learning.gradient import gradient_with_memory, whole_gradient, worth_compiling
from ppolab.learning.memory import Memory, note_on_memory
from ppolab.learning.native.library import compiler
from ppolab.learning.native.recurrence import native_steps, use_native_recurrence
from ppolab.learning.objective import Samples
from ppolab.learning.rollout import Rollout
from ppolab.learning.sequences import sequences_of
from ppolab.runtime.process_group import ALONE

KINDS = ["gru", "lstm"]


def remembering_config(env: str = "Diary", **settings: Any) -> Config:
    """Rollouts of 10 steps in sequences of 4: the last sequence of each environment is half padding."""
    fixed = {"model.memory": "gru", "model.memory_size": 5, "rollout_steps": 10, "sequence_length": 4,
        "minibatch_size": 20,
    }  # fmt: skip
    return tiny_config(f"probe/{env}-v0", **(fixed | settings))


def collected(config: Config, rollouts: int = 3) -> tuple[ActorCritic, list[Rollout]]:
    env = make_env(config)
    policy = make_policy(config, env)
    with torch.no_grad():  # far enough from the initial near-uniform policy that a wrong state shows
        policy.action_head.weight.mul_(100.0)
    collector = make_collector(config, env)
    found = [collector.collect(policy) for _ in range(rollouts)]
    env.close()
    return policy, found


def samples_of(rollout: Rollout, config: Config) -> Samples:
    return Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values)


# --- layers ----------------------------------------------------------------------------------------------------------


def of_pytorch(memory: Memory, kind: str, inputs: int) -> nn.GRU | nn.LSTM:
    """PyTorch's own layers with the same weights."""
    made = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](inputs, memory.size, len(memory.layers))
    for index, layer in enumerate(memory.layers):
        for ours, theirs in ((layer.inputs, "ih"), (layer.recurrent, "hh")):
            getattr(made, f"weight_{theirs}_l{index}").data.copy_(ours.weight)
            bias = getattr(made, f"bias_{theirs}_l{index}").data
            bias.copy_(ours.bias if ours.bias is not None else torch.zeros_like(bias))
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_layers_are_those_of_pytorch(kind: str, layers: int) -> None:
    torch.manual_seed(0)
    memory = Memory(kind, 3, 4, layers)
    theirs = of_pytorch(memory, kind, 3)
    features, state = torch.randn(6, 5, 3), torch.randn(memory.rows, 5, 4)
    outputs, last = memory(features, state)
    if kind == "gru":
        expected, expected_last = theirs(features, state)
    else:
        expected, (hidden, cell) = theirs(features, (state[0::2].contiguous(), state[1::2].contiguous()))
        expected_last = torch.stack((hidden, cell), dim=1).flatten(0, 1)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(last, expected_last)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    torch.manual_seed(0)
    memory = Memory(kind, 2, 3, 2).double()
    starts = torch.tensor([[False, True], [True, False], [False, False]])

    def outputs(features: Tensor, state: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(dict(memory.named_parameters()), parameters, strict=True))
        result: tuple[Tensor, Tensor] = torch.func.functional_call(memory, named, (features, state, starts))
        return result

    features, state = torch.randn(3, 2, 2).double(), torch.randn(memory.rows, 2, 3).double()
    inputs = [features, state, *(parameter.detach() for parameter in memory.parameters())]
    assert torch.autograd.gradcheck(outputs, [each.requires_grad_() for each in inputs])


def test_a_start_forgets_the_state_before_it_and_nothing_else() -> None:
    torch.manual_seed(0)
    memory = Memory("lstm", 2, 3, 1)
    features, state = torch.randn(4, 2, 2), torch.randn(2, 2, 3)
    starts = torch.zeros((4, 2), dtype=torch.bool)
    starts[2, 1] = True
    whole, _ = memory(features, state, starts)
    plain, _ = memory(features, state)
    anew, _ = memory(features[2:], torch.zeros_like(state))
    assert whole[:, 0].equal(plain[:, 0]) and whole[:2, 1].equal(plain[:2, 1])
    torch.testing.assert_close(whole[2:, 1], anew[:, 1])
    assert not torch.allclose(whole[2:, 1], plain[2:, 1])


# --- rollouts --------------------------------------------------------------------------------------------------------


def retold(policy: ActorCritic, rollouts: list[Rollout]) -> list[tuple[Tensor, Tensor]]:
    """(parameters, values) of all rows, computed step by step for one environment at a time."""
    rows: list[list[tuple[Tensor, Tensor]]] = []
    for env in range(rollouts[0].valid.shape[1]):
        state = policy.no_memories(1)
        answers = []
        for rollout in rollouts:
            for t in range(len(rollout.valid)):
                parameters, values, state = policy.remembering(rollout.observations[t, env : env + 1], state)
                answers.append((parameters[0], values[0]))
                if not rollout.valid[t, env]:  # what follows is the first observation of an episode
                    state = policy.no_memories(1)
        rows.append(answers)
    return [tuple(map(torch.stack, zip(*at_once, strict=True))) for at_once in zip(*rows, strict=True)]  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trunk", ["separate", "shared"])
@torch.no_grad()
def test_a_rollout_is_what_single_steps_give_with_a_state_forgotten_at_every_end(kind: str, trunk: str) -> None:
    policy, rollouts = collected(remembering_config(**{"model.memory": kind, "model.trunk": trunk}))
    parts = (torch.cat([each.parameters for each in rollouts]), torch.cat([each.values[:-1] for each in rollouts]))
    for parameters, values, (expected, expected_values) in zip(*parts, retold(policy, rollouts), strict=True):
        torch.testing.assert_close(parameters, expected)
        torch.testing.assert_close(values, expected_values)


@torch.no_grad()
def test_the_value_after_the_last_step_is_that_with_memory() -> None:
    _, rollouts = collected(remembering_config())
    for before, after in itertools.pairwise(rollouts):
        torch.testing.assert_close(before.values[-1], after.values[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 3, 4, 10, 64])
@torch.no_grad()
def test_sequences_give_what_was_collected(kind: str, length: int) -> None:
    """Episodes are terminated and truncated in the middle of sequences; a reset that is missing shows here."""
    config = remembering_config(**{"sequence_length": length, "model.memory": kind})
    policy, rollouts = collected(config)
    leaks = []
    for rollout in rollouts:
        samples = samples_of(rollout, config)
        real = samples.weights > 0
        assert int(real.sum()) == int(rollout.valid.sum())
        parameters, values = policy(*samples.inputs_of_policy())
        torch.testing.assert_close(parameters[real], samples.parameters[real])
        torch.testing.assert_close(values[real], samples.values[real])
        assert samples.starts is not None and samples.starts.any()
        leaking = policy(*samples._replace(starts=torch.zeros_like(samples.starts)).inputs_of_policy())
        leaks += [not torch.allclose(leaking[0][real], samples.parameters[real], rtol=0.01)]
        leaks += [not torch.allclose(leaking[1][real], samples.values[real], rtol=0.01)]
    assert any(leaks) == (length > 1)


@torch.no_grad()
def test_values_of_the_whole_rollout_are_those_that_were_collected() -> None:
    policy, rollouts = collected(remembering_config())
    for rollout in rollouts:
        assert rollout.memories is not None
        memories = rollout.memories
        values = policy.values(rollout.observations, memories.states[0], memories.starts)
        torch.testing.assert_close(values, rollout.values)
        parameters = policy.action_parameters(rollout.observations[:-1], memories.states[0], memories.starts[:-1])
        torch.testing.assert_close(parameters, rollout.parameters)


def test_states_are_stored_once_per_sequence() -> None:
    _, (rollout, *_) = collected(remembering_config())
    assert rollout.memories is not None
    assert rollout.memories.states.shape == (3, 2, 4, 5)  # 3 sequences, of actor and critic, 4 environments
    assert not rollout.memories.states[0].any() and rollout.memories.states[1:].any()


# --- sequences and minibatches ---------------------------------------------------------------------------------------


def test_sequences_of_a_rollout_by_hand() -> None:
    valid = torch.tensor([[True, True], [True, False], [False, True], [True, False], [True, False]])
    found = sequences_of(valid, 2)
    assert found.places.tolist() == [0, 1, 2, 3, 4]  # the sixth has no valid row
    assert found.rows.tolist() == [[0, 1, 4, 5, 8], [2, 3, 6, 7, 8]]
    assert found.real.tolist() == [[True, True, False, True, True], [True, False, True, False, False]]


@pytest.mark.parametrize("normalize", [False, True])
def test_every_row_of_experience_is_in_one_minibatch(normalize: bool) -> None:
    config = remembering_config()
    _, rollouts = collected(config)
    samples = samples_of(rollouts[2], config)
    owners, _ = shared_facts(rollouts[2], samples, config, ALONE)
    order = shuffled(owners, 0, 20, torch.Generator().manual_seed(0))
    if normalize:
        samples = with_standardized_advantages(samples, order, ALONE)
    batches = list(minibatches_of_sequences(samples, order))
    valid = int(rollouts[2].valid.sum())
    assert len(batches) == -(-valid // 20)
    assert [int(batch.weights.sum()) for batch in batches] == order.of_samples.sizes.tolist()
    assert sum(int(batch.weights.sum()) for batch in batches) == valid
    rows = torch.cat([batch.observations[batch.weights > 0] for batch in batches])  # type: ignore[index]
    wanted = rollouts[2].observations[:-1][rollouts[2].valid]
    assert sorted(rows.tolist()) == sorted(wanted.tolist())
    for batch in batches:
        assert batch.states is not None and len(batch.weights) == 4 * batch.states.shape[1]
        if normalize:
            real = batch.advantages[batch.weights > 0]
            assert real.mean().item() == pytest.approx(0, abs=1e-6) and real.std().item() == pytest.approx(1, abs=1e-4)


def test_two_processes_divide_the_sequences_that_one_would_have() -> None:
    config = remembering_config()
    _, (_, rollout, _) = collected(config)
    real = sequences_of(rollout.valid, 4).real
    owner = torch.arange(real.shape[1]) % 2
    owners = torch.where(real, owner, -1)
    one = shuffled(torch.where(real, 0, -1), 0, 16, torch.Generator().manual_seed(0))
    parts = [shuffled(owners, rank, 16, torch.Generator().manual_seed(0)) for rank in (0, 1)]
    for part in parts:
        assert part.totals.equal(one.totals) and part.of_samples.totals.equal(one.of_samples.totals)
    assert (parts[0].sizes + parts[1].sizes).equal(one.sizes)
    assert (parts[0].of_samples.sizes + parts[1].of_samples.sizes).equal(one.of_samples.sizes)
    back = [torch.arange(real.shape[1])[owner == rank] for rank in (0, 1)]
    together = torch.cat([back[rank][parts[rank].places] for rank in (0, 1)])
    assert sorted(together.tolist()) == sorted(one.places.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_the_gradient_is_that_of_a_plain_loop_over_single_steps(kind: str, trunk: str) -> None:
    config = remembering_config(**{"model.memory": kind, "model.trunk": trunk, "entropy_coef": 0.01})
    policy, rollouts = collected(config)
    samples = samples_of(rollouts[1], config)
    assert samples.states is not None and samples.starts is not None
    count = samples.states.shape[1]
    objective = ppo_objective(policy, config)
    answers, state = [], samples.states
    for seen, starts in zip(samples.observations.split(count), samples.starts.split(count), strict=True):  # type: ignore[union-attr]
        parameters, values, state = policy.remembering(seen, state * (~starts)[:, None])
        answers.append((parameters, values))
    loss, _ = objective.function(*map(torch.cat, zip(*answers, strict=True)), samples)
    expected = torch.autograd.grad(loss, list(policy.parameters()))
    context = make_context(policy, config)
    for gradient in (gradient_with_memory, whole_gradient):
        found, _ = gradient(policy, context.flat, objective)(context.flat.vector.detach(), *samples)
        torch.testing.assert_close(found, torch.cat([each.reshape(-1) for each in expected]), rtol=1e-5, atol=1e-6)


def test_settings_of_a_memory_that_is_not_there_are_told() -> None:
    given = remembering_config(**{"model.memory": "none", "model.memory_size": 8})
    assert note_on_memory(given) == (
        "model.memory_size=8, sequence_length=4: not read, since model.memory=none; set model.memory=gru or lstm"
    )
    assert note_on_memory(remembering_config()) is None and note_on_memory(tiny_config("probe/Diary-v0")) is None


# --- tasks with known answers ----------------------------------------------------------------------------------------

PROBE = {
    "num_envs": 8, "rollout_steps": 16, "minibatch_size": 32, "epochs": 4, "optimizer.lr": 0.02, "sequence_length": 8,
    "model.memory_size": 8, "normalize_advantages": True,
}  # fmt: skip


def values_after(policy: ActorCritic, *observations: float) -> list[float]:
    rows = torch.tensor(observations).view(-1, 1, 1)
    with torch.no_grad():
        return policy.values(rows, policy.no_memories(1))[:, 0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_value_depends_on_the_first_observation_of_the_episode(kind: str) -> None:
    config = remembering_config("FirstDecides", **PROBE, **{"model.memory": kind, "gamma": 0.9})
    result = train(config, 25, native=compiler() is not None)
    assert values_after(result.policy, 1.0, 0.0, 0.0) == pytest.approx([0.81, 0.9, 1.0], abs=0.12)
    assert values_after(result.policy, -1.0, 0.0, 0.0) == pytest.approx([-0.81, -0.9, -1.0], abs=0.12)


def test_without_memory_that_value_is_the_mean() -> None:
    result = train(remembering_config("FirstDecides", **PROBE, **{"model.memory": "none", "gamma": 0.9}), 25)
    assert result.value(0.0) == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_action_is_what_was_seen_two_steps_ago(kind: str) -> None:
    settings = {"model.memory": kind, "gamma": 0.0}
    result = train(remembering_config("Recall", **(PROBE | settings)), 16, native=compiler() is not None)
    known = result.rollout.rewards[result.rollout.valid].mean().item()
    assert known > 0.62  # 5 of 7 steps can be answered; chance gives 0.36


# --- the steps in C++ ------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 4, 13])
@pytest.mark.parametrize("starts", [False, True])
def test_steps_in_native_code_and_their_gradients_are_those_one_by_one(kind: str, rows: int, starts: bool) -> None:
    torch.manual_seed(0)
    memory = Memory(kind, 3, 16, 2)
    features, state = torch.randn(5, rows, 3), torch.randn(memory.rows, rows, 16)
    begins = torch.rand(5, rows) < 0.3 if starts else None

    inputs = [features.requires_grad_(), state.requires_grad_(), *memory.parameters()]
    found = []
    for over_steps in (None, native_steps):
        memory.over_steps = over_steps
        outputs, last = memory(features, state, begins)
        total = (outputs * torch.linspace(-1, 1, 16)).sum() + (last**2).sum()
        found.append((outputs, last, *torch.autograd.grad(total, inputs)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@needs_compiler
def test_native_code_makes_the_steps_where_nobody_differentiates_twice() -> None:
    config = remembering_config(**{"model.memory_size": 8})
    policy, rollouts = collected(config)
    use_native_recurrence(policy)
    inputs = samples_of(rollouts[1], config).inputs_of_policy()
    assert "Gru" in _history(policy.train()(*inputs)[1])
    assert "Gru" not in _history(policy.eval()(*inputs)[1])  # TRPO's Fisher matrix is a second derivative
    plain, _ = collected(remembering_config(**{"model.memory_size": 9}))
    use_native_recurrence(plain)
    assert plain.actor_memory is not None and plain.actor_memory.over_steps is None  # no multiple of eight


def test_updates_with_memory_in_pytorch_are_not_compiled() -> None:
    config = remembering_config(compile="true")
    policy, _ = collected(config, 1)
    assert not worth_compiling(make_context(policy, config))


def _history(tensor: Tensor) -> str:
    """The names of the operations that a tensor comes from."""
    waiting, names = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in names:
            names.add(node)
            waiting += [following for following, _ in node.next_functions]
    return " ".join(node.name() for node in names)
