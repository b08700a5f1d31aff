"""Updates on images: where they differ from those on vectors, and that they compute the same."""

from __future__ import annotations

import weakref
from pathlib import Path

import probe_envs  # noqa: F401
import pytest
import torch
from gymnasium import spaces
from helpers import make_collector, make_config, make_context, make_env, make_policy, tiny_config
from small_runs import run_small

from ppolab.core.observation_rows import ImagePart, RowLayout
from ppolab.learning import encoders, gradient
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.encoders import in_parts
from ppolab.learning.epoch import shuffled, stepwise_epoch
from ppolab.learning.experience import Experience
from ppolab.learning.gradient import worth_compiling
from ppolab.learning.image_networks import Pixels
from ppolab.learning.interface import LearnerContext
from ppolab.learning.native.policy import unknown_to_native
from ppolab.learning.objective import ChosenRows, Samples
from ppolab.runtime.process_group import ALONE
from ppolab.training.pytorch_threads import pytorch_threads, update_threads

SQUARE = ImagePart("", (9, 10, 1), channels_last=True)


def dot_config(**settings):  # type: ignore[no-untyped-def]
    return tiny_config("probe/Dot-v0", **settings)


def context_of(layout: RowLayout, **settings: object) -> LearnerContext:
    config = make_config(**({"compile": "auto"} | settings))
    torch.manual_seed(0)
    policy = ActorCritic(layout, action_distribution(spaces.Discrete(3)), config.model, normalize=False)
    return make_context(policy, config)


def test_a_rollout_and_what_it_was_collected_in_share_their_frames() -> None:
    config = dot_config()
    env = make_env(config)
    collector = make_collector(config, env)
    policy = make_policy(config, env)
    first = collector.collect(policy)
    kept = first.observations.clone()
    assert first.observations.data_ptr() == collector._steps.observations.ctypes.data
    assert collector.collect(policy).observations[0].equal(kept[-1])


@pytest.mark.parametrize("mixed", [False, True])
def test_samples_are_the_valid_rows_of_the_rollout(mixed: bool) -> None:
    config = dot_config(**{"env.kwargs": {"mixed": mixed}, "rollout_steps": 24})
    env = make_env(config)
    rollout = make_collector(config, env).collect(make_policy(config, env))
    assert not rollout.valid.all()
    seen = Experience(rollout, rollout.rewards, rollout.values, config).samples(rollout.values).observations
    assert isinstance(seen, ChosenRows)
    valid = rollout.observations[:-1][rollout.valid]
    assert seen.whole().equal(valid)
    assert seen.index_select(0, torch.tensor([3, 0])).equal(valid[[3, 0]])


def test_environments_that_are_staggered_do_not_change_what_the_rollout_ended_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = dot_config(**{"rollout_steps": 4, "env.stagger": True})
    env = make_env(config)
    monkeypatch.setattr(type(env), "longest_episode", property(lambda _: 10))
    collector, policy = make_collector(config, env), make_policy(config, env)
    collector._stagger = True
    changed = []
    for _ in range(3):
        rollout = collector.collect(policy)
        with torch.no_grad():
            assert torch.allclose(policy.values(rollout.observations[-1]), rollout.values[-1])
        changed.append(bool((collector._next != rollout.observations[-1].numpy()).any()))
    assert any(changed)


def test_many_rows_are_answered_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def answer(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(rows[..., 0].numel())
        return rows.float().sum(-1)

    monkeypatch.setattr(encoders, "ROWS_AT_ONCE", 4)
    images = torch.arange(60, dtype=torch.uint8).view(5, 2, 6)
    assert in_parts(answer, images).equal(images.float().sum(-1))
    assert sizes == [4, 4, 2]
    sizes.clear()
    in_parts(answer, images.float())
    assert sizes == [10]


@pytest.mark.parametrize(("at_once", "sizes"), [(100, [20]), (10, [10, 10]), (8, [7, 7, 7]), (6, [5, 5, 5, 5])])
def test_a_minibatch_in_parts_has_the_gradient_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, at_once: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(gradient, "IMAGES_AT_ONCE", at_once)
    seen: list[int] = []

    def slope(vector: torch.Tensor, *arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        numbers, weights, extra = arguments[0], arguments[gradient.WEIGHTS], arguments[-1]
        seen.append(len(numbers))
        mean = (numbers * weights).sum() / weights.sum()
        return vector * mean * extra, torch.stack([mean] * 4 + [(numbers * weights).sum(), weights.sum()])

    torch.manual_seed(0)
    numbers, weights = torch.rand(20), torch.ones(20)
    weights[15:] = 0.0
    batch = [numbers, *[torch.zeros(20)] * 6, weights, None, None]
    whole = slope(torch.tensor([1.0, 2.0]), *batch, torch.tensor(3.0))
    seen.clear()
    parts = gradient.in_parts(slope, 20)(torch.tensor([1.0, 2.0]), *batch, torch.tensor(3.0))
    torch.testing.assert_close(parts, whole)
    assert seen == sizes[: len(seen)]
    assert len(sizes) - len(seen) == (at_once == 6)  # the last part holds padding only


def test_compiling_earns_sooner_for_images() -> None:
    steps = {"total_steps": 64 * 5_000, "epochs": 1, "minibatch_size": 64}
    assert gradient.COMPILING_IMAGES_EARNS < 5_000 < gradient.COMPILING_EARNS["cpu"]
    assert worth_compiling(context_of(RowLayout(0, (SQUARE,)), **steps))
    assert not worth_compiling(context_of(RowLayout(7), **steps))


def test_updates_of_images_use_all_cores_and_rollouts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppolab.training.pytorch_threads.usable_cores", lambda: 3)
    assert update_threads(make_config(), images=True) == 3
    assert update_threads(make_config(), images=False) == 1
    assert update_threads(make_config(**{"trainer.threads": 2}), images=True) == 2
    before = torch.get_num_threads()
    with pytorch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_shorter_numbers_change_the_features_and_leave_the_rest_in_32_bits() -> None:
    context = context_of(RowLayout(0, (SQUARE,)))
    policy, rows = context.policy, torch.randint(0, 255, (6, 90), dtype=torch.uint8)
    with torch.no_grad():
        long = policy(rows)
        policy.bf16 = True
        short = policy(rows)
    for exact, rounded in zip(long, short, strict=True):
        assert rounded.dtype == torch.float32
        assert not exact.equal(rounded)
        assert torch.allclose(exact, rounded, atol=0.05)
    assert unknown_to_native(policy, context.flat) == "trainer.precision=bf16 asks for it"


def test_precision_changes_the_parameters_a_little(tmp_path: Path) -> None:
    settings = {
        "env": "cartpole", "env.id": "probe/Dot-v0", "num_envs": 4, "rollout_steps": 16, "minibatch_size": 32,
        "epochs": 1, "eval_interval": 0, "eval_episodes": 1, "total_steps": 64, "model.hidden_sizes": [16],
    }  # fmt: skip
    losses = [
        run_small(tmp_path / precision, **settings, **{"trainer.precision": precision}).metrics["loss/value"]
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize(
    ("sides", "changes", "compiles"),
    [(64, {}, False), (16, {}, True), (64, {"compile": "true"}, True), (64, {"trainer.precision": "bf16"}, True)],
)
def test_convolutions_of_large_images_are_compiled_only_where_that_is_asked_for(
    sides: int, changes: dict[str, str], compiles: bool
) -> None:
    context = context_of(RowLayout(0, (ImagePart("", (3, sides, sides), channels_last=False),)), **changes)
    context.policy.bf16 = context.config.trainer.precision == "bf16"
    assert worth_compiling(context) == compiles


def test_a_network_of_the_users_on_large_images_is_compiled() -> None:
    layout = RowLayout(0, (ImagePart("", (3, 64, 64), channels_last=False),))
    assert worth_compiling(context_of(layout, **{"model.encoder": "sample_image_networks:Convolution"}))


@pytest.mark.parametrize("channels_last", [False, True])
def test_pixels_are_scaled_with_the_channels_last_in_memory(channels_last: bool) -> None:
    images = torch.randint(0, 255, (2, 5, 6, 3) if channels_last else (2, 3, 5, 6), dtype=torch.uint8)
    images = images.permute(0, 3, 1, 2) if channels_last else images
    numbers = Pixels()(images)
    assert numbers.equal(images.float() / 255.0)
    assert numbers.is_contiguous(memory_format=torch.channels_last)
    assert images.max() > 1  # which were not scaled in place


def test_nothing_of_one_step_is_kept_while_the_next_is_made() -> None:
    """Large minibatches and gradients would else be there twice."""
    config = make_config(compile="false", minibatch_size=4)
    vector = torch.nn.Parameter(torch.zeros(3))
    seen: list[weakref.ref[torch.Tensor]] = []

    def gradient_of(point: torch.Tensor, observations: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        assert all(each() is None for each in seen)
        slope = torch.ones_like(point)
        seen.extend([weakref.ref(observations), weakref.ref(slope)])
        return slope, torch.zeros(6)

    epoch = stepwise_epoch(gradient_of, vector, torch.optim.Adam([vector], fused=True), config, ALONE)
    columns = [torch.zeros(12, 2), *[torch.zeros(12)] * 6]
    order = shuffled(torch.zeros(12, dtype=torch.int64), 0, 4, torch.Generator())
    epoch(Samples(*columns, torch.ones(12)), order)
    assert len(seen) == 6
