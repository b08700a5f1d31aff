"""Which backend simulates a task, what is said about it, and what is refused before a run starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids, pool_making
from ppolab.envs.backend_choice import (
    BackendChoice,
    _alike,
    _same_bounds,
    backend_choice,
    differing_spaces,
    is_well_known,
)
from ppolab.envs.factory import check_environment, evaluation_backend, for_evaluation, make_vector_env
from ppolab.envs.making import make_env
from ppolab.errors import ConfigError

needs_envpool = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")
pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date")


@needs_envpool
@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1", "FrozenLake-v1", "Hopper-v4"])
def test_tasks_that_are_the_same_in_both_take_envpool_without_a_word(env_id: str) -> None:
    assert backend_choice(EnvConfig(id=env_id)) == BackendChoice("envpool")


@needs_envpool
def test_other_spaces_take_gymnasium_and_say_so() -> None:
    choice = backend_choice(EnvConfig(id="Blackjack-v1"))
    assert choice.name == "gymnasium"
    (note,) = choice.notes
    assert note.startswith("Blackjack-v1: Gymnasium simulates it, since EnvPool's has the observations Box(0, 31, (3,)")
    assert "Gymnasium's Tuple(Discrete(32), Discrete(11), Discrete(2))" in note
    with pytest.raises(ConfigError, match=r"env\.id=Blackjack-v1: EnvPool's has .* use env\.backend=gymnasium"):
        check_environment(EnvConfig(id="Blackjack-v1", backend="envpool"))


@needs_envpool
@pytest.mark.parametrize("env_id", ["Humanoid-v4", "HumanoidStandup-v4"])
def test_tasks_that_envpool_simulates_otherwise_take_gymnasium_and_say_so(env_id: str) -> None:
    auto, forced = backend_choice(EnvConfig(id=env_id)), backend_choice(EnvConfig(id=env_id, backend="envpool"))
    assert (auto.name, forced.name) == ("gymnasium", "envpool")
    for choice in (auto, forced):
        assert len(choice.notes) == 1 and "EnvPool leaves the contact forces in the observation at 0" in choice.notes[0]


@needs_envpool
@pytest.mark.parametrize(("version", "zero"), [("v4", True), ("v5", False)])
def test_contact_forces_are_all_zero_in_the_old_humanoid_only(version: str, zero: bool) -> None:
    env = make_vector_env(EnvConfig(id=f"Humanoid-{version}"), [1, 2, 3, 4], "envpool")
    env.reset()
    actions = np.zeros((4, 17), dtype=np.float32)
    seen = np.stack([env.step(actions).observations for _ in range(60)])
    env.close()
    assert (seen[..., -78:] == 0).all() == zero


@needs_envpool
def test_every_task_known_to_be_the_same_has_the_same_spaces() -> None:
    known = [
        env_id
        for env_id in envpool_ids.package().list_all_envs()
        if env_id in gymnasium.registry and is_well_known(env_id)
    ]
    assert len(known) >= 17 and {"Hopper-v5", "CartPole-v1", "Pendulum-v1"} <= set(known)
    for env_id in known:
        probe = gymnasium.make(env_id, disable_env_checker=True)
        observations, actions = pool_making.pool_spaces(env_id, {})
        assert _alike(observations, probe.observation_space), env_id
        assert _alike(actions, probe.action_space) and _same_bounds(actions, probe.action_space), env_id
        probe.close()


@pytest.mark.parametrize(
    ("ours", "theirs", "alike"),
    [
        (spaces.Box(-1, 1, (3,), np.float64), spaces.Box(-2, 2, (3,), np.float32), True),
        (spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (4,)), False),
        (spaces.Discrete(3), spaces.Discrete(3), True),
        (spaces.Discrete(3), spaces.Discrete(3, start=1), False),
        (spaces.Box(0, 2, (1,), np.int32), spaces.Discrete(3), False),
        (spaces.Tuple([spaces.Discrete(2)]), spaces.Tuple([spaces.Discrete(2)]), True),
        (spaces.Tuple([spaces.Discrete(2)]), spaces.Tuple([spaces.Discrete(3)]), False),
        (spaces.Dict(a=spaces.Discrete(2)), spaces.Dict(a=spaces.Discrete(2)), True),
        (spaces.Dict(a=spaces.Discrete(2)), spaces.Dict(b=spaces.Discrete(2)), False),
        (spaces.MultiBinary(2), spaces.MultiBinary(3), False),
    ],
    ids=str,
)
def test_spaces_are_alike_where_their_values_mean_the_same(ours, theirs, alike: bool) -> None:
    assert _alike(ours, theirs) == alike


def test_the_ranges_of_actions_matter() -> None:
    assert _same_bounds(spaces.Box(-0.4, 0.4, (2,), np.float32), spaces.Box(-0.4, 0.4, (2,), np.float64))
    assert not _same_bounds(spaces.Box(-0.4, 0.4, (2,)), spaces.Box(-1, 1, (2,)))
    assert _same_bounds(spaces.Discrete(2), spaces.Discrete(2))


# --- what Gymnasium cannot make --------------------------------------------------------------------------------------


@needs_envpool
def test_a_version_for_an_older_simulator_is_envpool_s() -> None:
    choice = backend_choice(EnvConfig(id="Pusher-v4"))
    assert choice.name == "envpool"
    assert choice.notes[0].startswith("Pusher-v4: needs mujoco<3 in Gymnasium (use Pusher-v5), so EnvPool also plays")
    check_environment(EnvConfig(id="Pusher-v4"))
    with pytest.raises(ConfigError, match=r"^env\.id=Pusher-v4: needs mujoco<3 in Gymnasium; use Pusher-v5$"):
        check_environment(EnvConfig(id="Pusher-v4", backend="gymnasium"))


@needs_envpool
def test_a_version_that_is_gone_from_gymnasium_is_envpool_s() -> None:
    env = EnvConfig(id="Hopper-v3")
    check_environment(env)
    choice = backend_choice(env)
    assert choice.name == evaluation_backend(env) == "envpool"
    assert choice.notes == (
        "Hopper-v3: is no longer in Gymnasium (use Hopper-v5), so EnvPool also plays the evaluations",
    )
    for refused in ({"id": "Hopper-v3", "backend": "gymnasium"}, {"id": "Hopper-v2"}):
        with pytest.raises(ConfigError, match=r"^env\.id=Hopper-v.: is no longer in Gymnasium; use Hopper-v5$"):
            check_environment(EnvConfig(**refused))


# --- time limits -----------------------------------------------------------------------------------------------------


@needs_envpool
def test_a_time_limit_that_envpool_ignores_is_refused() -> None:
    for env_id in ("CliffWalking-v1", "CliffWalkingSlippery-v1"):
        env = EnvConfig(id=env_id, backend="envpool", kwargs={"max_episode_steps": 100})
        with pytest.raises(ConfigError, match=rf"EnvPool's {env_id} ignores max_episode_steps; use env\.backend="):
            check_environment(env)
        check_environment(EnvConfig(id=env_id, backend="envpool"))


@needs_envpool
@pytest.mark.parametrize("limit", [0, -1, 2.5])
def test_a_time_limit_is_a_number_of_steps(limit: float) -> None:
    env = EnvConfig(id="CartPole-v1", backend="envpool", kwargs={"max_episode_steps": limit})
    with pytest.raises(ConfigError, match="max_episode_steps"):
        check_environment(env)


@needs_envpool
def test_a_time_limit_that_envpool_keeps_is_taken() -> None:
    for env_id in ("CartPole-v1", "FrozenLake-v1", "Hopper-v5", "Pendulum-v1"):
        env = EnvConfig(id=env_id, backend="envpool", kwargs={"max_episode_steps": 7})
        check_environment(env)
        vector_env = make_vector_env(env, [1], "envpool")
        assert vector_env.longest_episode == 7
        vector_env.close()


@pytest.mark.parametrize("backend", ["gymnasium", pytest.param("envpool", marks=needs_envpool)])
def test_a_task_without_a_time_limit_says_so(backend: str) -> None:
    env = make_vector_env(EnvConfig(id="CliffWalking-v1"), [1], backend)
    assert env.longest_episode is None
    env.close()


def test_gymnasium_s_word_for_no_limit_is_understood() -> None:
    env = make_vector_env(EnvConfig(id="Pendulum-v1", kwargs={"max_episode_steps": -1}), [1], "gymnasium")
    assert env.longest_episode is None
    env.close()


# --- no EnvPool ------------------------------------------------------------------------------------------------------


def test_a_missing_envpool_is_told_of_where_it_would_have_been_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envpool_ids, "is_installed", lambda: False)
    choice = backend_choice(EnvConfig(id="Hopper-v5"))
    assert choice.name == "gymnasium" and len(choice.notes) == 1
    assert choice.notes[0].startswith("Hopper-v5: EnvPool is not installed, so Gymnasium simulates it, which is slower")
    assert backend_choice(EnvConfig(id="Blackjack-v1")) == BackendChoice("gymnasium")


@needs_envpool
def test_arguments_that_lead_to_gymnasium_are_told_of() -> None:
    choice = backend_choice(EnvConfig(id="Hopper-v5", kwargs={"forward_reward_weight": 2.0}))
    assert choice.name == "gymnasium" and "may not know the arguments of env.kwargs" in choice.notes[0]


@pytest.fixture
def broken_envpool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package of this name whose library cannot be loaded."""
    (tmp_path / "envpool").mkdir()
    (tmp_path / "envpool" / "__init__.py").write_text("raise OSError('libGL.so.1: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "envpool"]:
        monkeypatch.delitem(sys.modules, name)
    caches = (envpool_ids.import_problem, envpool_ids.package)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("broken_envpool")
def test_an_envpool_that_cannot_be_imported_is_told_of_and_left_alone() -> None:
    env = EnvConfig(id="CartPole-v1")
    check_environment(env)
    choice = backend_choice(env)
    assert choice.name == "gymnasium"
    assert choice.notes == (
        "CartPole-v1: EnvPool cannot be imported (OSError: libGL.so.1: cannot open shared object file), so Gymnasium "
        "simulates it, which is slower",
    )
    assert not envpool_ids.has("CartPole-v1")


@pytest.mark.usefixtures("broken_envpool")
def test_an_envpool_that_cannot_be_imported_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"env\.backend=envpool: the package envpool cannot be imported"):
        check_environment(EnvConfig(id="CartPole-v1", backend="envpool"))


@needs_envpool
@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"id": "TicTacToe-v1"}, r"^env\.id=TicTacToe-v1: is a game of 2 players, .*choose another environment$"),
        (
            {"id": "Pong-v5", "kwargs": {"stack_number": 2}},
            r"^env\.kwargs=.*: EnvPool's Pong-v5 has no argument stack_number; did you mean 'stack_num'\?$",
        ),
        ({"id": "Pongg-v5"}, r"^env\.id=Pongg-v5: no such registered environment; did you mean 'Pong-v5'\?$"),
    ],
)
def test_what_envpool_alone_has_is_refused_in_one_line(settings: dict[str, Any], answer: str) -> None:
    with pytest.raises(ConfigError, match=answer):
        check_environment(EnvConfig(**settings))


@needs_envpool
def test_every_game_of_several_players_is_refused_with_its_reason() -> None:
    families = ("gfootball", "highway", "jumanji", "pgx", "procgen", "vizdoom")  # the others are of one robot or player
    ids = [env_id for env_id in envpool_ids.known_ids() if envpool_ids.family_of(env_id) in families]
    games = [env_id for env_id in ids if envpool_ids.defaults_of(env_id)["max_num_players"] > 1]
    assert len(games) == 22
    assert {"IntersectionMultiAgent-v0", "intersection-multi-agent-v1", "Chess-v1", "SparrowMahjong-v1"} <= set(games)
    for env_id in [*games, "Cig-v1", "MultiDuel-v1"]:
        env = EnvConfig(id=env_id)
        for refused in (check_environment, lambda env: make_vector_env(env, [1, 2], "envpool")):
            with pytest.raises(ConfigError, match=rf"^env\.id={env_id}: is a game of (2|3|several) players, [^\n]*$"):
                refused(env)


@needs_envpool
def test_an_id_of_envpool_alone_is_played_by_it_everywhere() -> None:
    env = EnvConfig(id="BabyAI-PutNextS6N3-v0", num_threads=1)
    assert backend_choice(env).name == evaluation_backend(env) == "envpool"
    made = make_vector_env(env, [1, 2], "envpool")
    assert made.longest_episode is None  # EnvPool says 0
    alone = make_env(env)
    observation, _ = alone.reset(seed=5)
    again, _ = alone.reset(seed=5)
    assert alone.observation_space == made.observation_space
    assert all((observation[key] == again[key]).all() for key in observation)
    assert alone.step(0)[1:4] == (0.0, False, False)


@needs_envpool
@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
def test_an_evaluation_keeps_the_arguments_of_the_training(backend: str) -> None:
    """`Step.game` tells of whole games and their score."""
    env = EnvConfig(id="Pong-v5", backend=backend, kwargs={"episodic_life": True, "reward_clip": True, "frame_skip": 2})
    assert for_evaluation(env) == env
    assert for_evaluation(EnvConfig(id="Hopper-v5", backend="warp")).backend == "auto"


@needs_envpool
def test_wrappers_wrap_what_envpool_alone_has_one_by_one() -> None:
    env = EnvConfig(id="NChain-v0", wrappers=["sample_wrappers:PlusOne"])
    choice = backend_choice(env)
    assert choice.name == evaluation_backend(env) == "gymnasium"
    assert choice.notes == (
        "NChain-v0: EnvPool alone has it, and env.wrappers wrap EnvPool's environments one by one, which is slower",
    )
    plain, wrapped = make_env(EnvConfig(id="NChain-v0")), make_env(env)
    for each in (plain, wrapped):
        each.reset(seed=3)
    assert wrapped.step(0)[1] == plain.step(0)[1] + 1


@needs_envpool
def test_gymnasium_by_name_steps_what_envpool_alone_has_one_by_one() -> None:
    choice = backend_choice(EnvConfig(id="Pong-v5", backend="gymnasium"))
    assert choice.name == "gymnasium"
    assert choice.notes == (
        "Pong-v5: EnvPool alone has it, and env.backend=gymnasium steps EnvPool's environments one by one, which is "
        "slower",
    )
    unseen = backend_choice(EnvConfig(id="NChain-v0", backend="gymnasium"))
    assert unseen.notes[0].endswith("one by one, which is slower, and there is no video")
    assert backend_choice(EnvConfig(id="CartPole-v1", backend="gymnasium")).notes == ()


def test_bounds_inside_a_dict_of_actions_count() -> None:
    seen = spaces.Box(-1, 1, (2,))
    narrow, wide = (spaces.Dict(how=spaces.Box(0, high, (1,)), which=spaces.Discrete(2)) for high in (1, 2))
    assert differing_spaces((seen, narrow), (seen, narrow)) == []
    assert differing_spaces((seen, narrow), (seen, wide)) == [("actions", narrow, wide)]
