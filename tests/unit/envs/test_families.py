"""What is peculiar about EnvPool's families: every line of the table is seen in real environments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

import ppolab.agents.evaluation as evaluation
from ppolab.config.schema import EnvConfig
from ppolab.core.moments import sample_moments
from ppolab.envs import envpool_ids, families
from ppolab.envs.backend_choice import backend_choice, evaluation_backend
from ppolab.envs.envpool_backend import EnvPoolEnv
from ppolab.envs.envpool_ids import family_of
from ppolab.envs.envpool_tasks import plain_name
from ppolab.envs.factory import check_environment, environment_spaces, make_vector_env
from ppolab.envs.making import make_env
from ppolab.envs.spaces import ActionMapping
from ppolab.envs.vector_env import Step
from ppolab.errors import ConfigError
from ppolab.learning.episode_statistics import EpisodeStatistics
from ppolab.learning.normalization import RunningScale

pytestmark = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")

HIDDEN = "EnvPool does not tell an end on the last allowed step"


@contextmanager
def made(env_id: str, seeds: tuple[int, ...] = (1, 2), **kwargs: Any) -> Iterator[EnvPoolEnv]:
    env = EnvPoolEnv(env_id, kwargs, seeds, num_threads=1, mapping=ActionMapping())
    yield env
    env.close()


def drawn(env: EnvPoolEnv, rng: np.random.Generator, *, alike: bool = False) -> NDArray[Any]:
    """Actions of the policy [N, ...] by chance; `alike` gives all environments the same."""
    space, count = env.action_space, env.num_envs
    if isinstance(space, spaces.Discrete):
        actions: NDArray[Any] = rng.integers(space.n, size=(count, 1))
    else:
        actions = rng.uniform(-1, 1, size=(count, int(np.prod(space.shape)))).astype(np.float32)  # type: ignore[arg-type]
    return np.repeat(actions[:1], count, axis=0) if alike else actions


def steps(env: EnvPoolEnv, count: int, *, seed: int = 0, alike: bool = False) -> list[Step]:
    rng = np.random.default_rng(seed)
    env.reset()
    return [env.step(drawn(env, rng, alike=alike)) for _ in range(count)]


def notes(env_id: str, **kwargs: Any) -> tuple[str, ...]:
    return backend_choice(EnvConfig(id=env_id, kwargs=kwargs)).notes


def warnings(env_id: str, **kwargs: Any) -> tuple[str, ...]:
    return backend_choice(EnvConfig(id=env_id, kwargs=kwargs)).warnings


def says(lines: tuple[str, ...], words: str) -> bool:
    return any(words in line for line in lines)


# --- the table -------------------------------------------------------------------------------------------------------


def tables() -> list[families.Ids]:
    return [
        families.HIDDEN_ENDS, families.UNLIMITED, families.ONE_STEP_MORE, families.LIMIT_FIXED, families.CRASHING,
        *(each.ids for each in families.PECULIARITIES),
    ]  # fmt: skip


def test_every_pattern_finds_ids_of_its_family() -> None:
    names: dict[str, set[str]] = {}
    for env_id in envpool_ids.known_ids():
        names.setdefault(family_of(env_id), set()).add(plain_name(env_id))
    for ids in tables():
        for family, pattern in ids.items():
            for part in [pattern] if "(" in pattern else pattern.split("|"):
                assert any(re.fullmatch(part, name) for name in names[family]), (family, part)
    assert set(families.ENDS_IN_INFO) | set(families.REWARDED_AT_ENDS) <= set(names)


@pytest.mark.parametrize("env_id", ["CheetahRun-v1", "MetaWorld/DoorOpen-v3", "Go1Footstand-v1", "HighwayFast-v0"])
def test_nothing_is_told_of_tasks_without_peculiarities(env_id: str) -> None:
    choice = backend_choice(EnvConfig(id=env_id))
    assert choice.warnings == ()
    assert choice.notes == (f"{env_id}: EnvPool alone has it, so EnvPool also plays the evaluations",)


# --- ends on the last allowed step -----------------------------------------------------------------------------------


def first_end(env_id: str, count: int, **kwargs: Any) -> int:
    """The number of the step at which the first of two environments terminates."""
    with made(env_id, **kwargs) as env:
        ended = [bool(step.terminated[0]) for step in steps(env, count)]
    return ended.index(True) + 1


@pytest.mark.parametrize(
    ("env_id", "limit", "longer"),
    [("AeroCubeRotateZAxis-v1", "max_episode_steps", 30), ("HighwayFast-v0", "duration", 40)],
)
def test_the_info_tells_an_end_on_the_last_allowed_step(env_id: str, limit: str, longer: int) -> None:
    end = first_end(env_id, 40, **{limit: longer})
    allowed = {limit: end} | ({"max_episode_steps": end} if limit == "duration" else {})
    with made(env_id, **allowed) as env:
        last = steps(env, end)[-1]
    assert last.truncated[0] and last.terminated[0]
    earlier = {key: value - 1 for key, value in allowed.items()}
    with made(env_id, **earlier) as env:
        last = steps(env, end - 1)[-1]
    assert last.truncated[0] and not last.terminated[0]
    assert not says(notes(env_id), HIDDEN)


def test_a_reward_tells_an_end_on_the_last_allowed_step_of_a_grid() -> None:
    turn_right, forward = 1, 2
    way = [forward, forward, turn_right, forward, forward]
    for limit, reached in ((5, True), (4, False)):
        with made("MiniGrid-Empty-5x5-v0", max_episode_steps=limit) as env:
            env.reset()
            for action in way[:limit]:
                last = env.step(np.full((2, 1), action))
        assert last.truncated.all()
        assert last.terminated.tolist() == [reached] * 2 and (last.rewards > 0).tolist() == [reached] * 2


def test_a_game_over_of_2048_is_an_end_however_late_it_comes() -> None:
    with made("Game2048-v1", max_episode_steps=10) as env:
        taken = steps(env, 400)
    ended = np.stack([step.terminated for step in taken])
    truncated = np.stack([step.truncated for step in taken])
    assert ended.any() and (ended == (ended | truncated)).all()
    assert truncated.any()  # what EnvPool calls it


@pytest.mark.parametrize("env_id", ["Sokoban-v0", "CoinrunEasy-v0", "LqrLqr21-v1", "exit-v0", "CarRacing-v2"])
def test_where_nothing_tells_such_an_end_a_run_says_so(env_id: str) -> None:
    assert says(notes(env_id), HIDDEN)


# --- rewards of the row that only resets -----------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["CartpoleBalance-v1", "MetaWorld/Reach-v3"])
def test_the_resetting_row_pays_and_is_left_out(env_id: str) -> None:
    with made(env_id, max_episode_steps=3) as env:
        taken = steps(env, 8)
    rewards, valid = np.stack([step.rewards for step in taken]), np.stack([step.valid for step in taken])
    ended = np.stack([step.terminated | step.truncated for step in taken])
    assert valid[:, 0].tolist() == [True, True, True, False, True, True, True, False]
    assert (rewards[[3, 7]] != 0).all()  # it would change returns and moments
    discounted, episodes = EpisodeStatistics(2, 1.0).add(rewards, ended, valid)
    assert [episode.length for episode in episodes] == [3, 3, 3, 3]
    assert [episode.total_reward for episode in episodes] == pytest.approx(
        [*rewards[:3].sum(axis=0), *rewards[4:7].sum(axis=0)]
    )
    assert discounted[3].tolist() == [0.0, 0.0]


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "longest"),
    [
        ("LaneKeeping-v0", None), ("lane-keeping-v0", None), ("merge-v0", None), ("Game2048-v1", None),
        ("Play2048-v1", None), ("Catch-v0", None), ("exit-v0", 18), ("Maze-v0", 100), ("CheetahRun-v1", 1000),
        ("gfootball/academy_corner-v1", 401),
    ],
)  # fmt: skip
def test_the_longest_episode_is_what_the_task_keeps_to(env_id: str, longest: int | None) -> None:
    with made(env_id) as env:
        assert env.longest_episode == longest


def test_an_episode_of_football_is_one_step_longer_than_its_limit() -> None:
    with made("gfootball/academy_corner-v1", max_episode_steps=3) as env:
        assert env.longest_episode == 4
        truncated = [bool(step.truncated[0]) for step in steps(env, 4)]
    assert truncated == [False, False, False, True]


@pytest.mark.parametrize("env_id", ["LaneKeeping-v0", "Maze-v0", "CoinrunEasy-v0", "Play2048-v1", "Catch-v0"])
def test_a_limit_that_would_be_ignored_is_refused(env_id: str) -> None:
    with made(env_id, max_episode_steps=2) as env:
        ended = np.stack([step.terminated | step.truncated for step in steps(env, 2)])
    assert not ended[1].all()
    with pytest.raises(ConfigError, match=rf"EnvPool's {env_id} ignores max_episode_steps; leave it out$"):
        check_environment(EnvConfig(id=env_id, kwargs={"max_episode_steps": 2}))


@pytest.mark.parametrize("env_id", ["CheetahRun-v1", "Sokoban-v0", "Pong-v5", "MiniGrid-Empty-5x5-v0"])
def test_a_limit_that_is_kept_is_taken(env_id: str) -> None:
    check_environment(EnvConfig(id=env_id, kwargs={"max_episode_steps": 3}))
    with made(env_id, max_episode_steps=3) as env:
        assert [bool(step.truncated[0]) for step in steps(env, 3)] == [False, False, True]


def test_an_evaluation_of_episodes_that_never_end_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(evaluation, "MAX_EPISODE_STEPS", 300)
    assert says(warnings("lane-keeping-v0"), "its episodes never end")
    with made("lane-keeping-v0") as env:
        played = evaluation.play_episodes(lambda rows, masks: np.zeros((len(rows), 1), dtype=np.float32), env)
    assert played.lengths == [300, 300]
    assert "2 of 2 episodes did not end within 300 steps; what they had by then counts" in caplog.text


# --- what the results of some tasks mean -----------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["MyoHandAppleFixed-v0", "MyoSuite/MyoHandAppleFixed-v0"])
def test_episodes_of_one_step_are_told(env_id: str) -> None:
    with made(env_id) as env:
        taken = steps(env, 4)
    assert [step.terminated.tolist() for step in taken] == [[True, True], [False, False]] * 2
    assert says(warnings(env_id), "every episode ends after one step")
    assert not says(warnings("MyoHandAppleRandom-v0"), "every episode ends after one step")


def played_alike(env_id: str, seeds: tuple[int, int]) -> list[NDArray[Any]]:
    """Observations and rewards [T, N, ...] under the same actions, before and after another reset."""
    found = []
    with made(env_id, seeds) as env:
        for _ in range(2):
            taken = steps(env, 12, alike=True)
            found += [np.stack([step.observations for step in taken]), np.stack([step.rewards for step in taken])]
    return found


SINGLE = [
    "Roundabout-v0", "two-way-v0", "Jumanji/PacMan-v1", "Connector-v2", "MiniGrid-Empty-6x6-v0", "CliffWalking-v1",
    "myoFingerReachRandom-v0",
]  # fmt: skip
SEVERAL = ["HighwayFast-v0", "Maze-v0", "MiniGrid-Empty-Random-6x6-v0", "MetaWorld/PlateSlide-v3", "CheetahRun-v1"]


@pytest.mark.parametrize(
    ("env_id", "single"), [*((name, True) for name in SINGLE), *((name, False) for name in SEVERAL)]
)
def test_a_task_of_one_single_problem_is_told(env_id: str, single: bool) -> None:
    observations, rewards, again, rewards_again = played_alike(env_id, (3, 99))
    same_rows = (observations[:, 0] == observations[:, 1]).all() and (rewards[:, 0] == rewards[:, 1]).all()
    same_after_reset = (observations == again).all() and (rewards == rewards_again).all()
    assert (same_rows and same_after_reset) == single
    assert says(warnings(env_id), "is one single problem") == single


@pytest.mark.parametrize(
    ("env_id", "hidden"),
    [("MetaWorld/Reach-v3", True), ("MetaWorld/PlateSlideBack-v3", True), ("MetaWorld/DoorOpen-v3", False),
     ("MetaWorld/SweepInto-v3", False)],
)  # fmt: skip
def test_a_goal_that_is_hidden_and_moves_is_told(env_id: str, hidden: bool) -> None:
    with made(env_id, (3, 99)) as env:
        assert (np.array([step.observations for step in steps(env, 3)])[..., -3:] == 0).all()
    with made(env_id, (3, 99), partially_observable=False) as env:
        observed = steps(env, 1)[0].observations
    goal, thing = observed[:, -3:], observed[:, 4:7]
    moves = not np.allclose(goal[0], goal[1], atol=1e-3)
    told_by_the_thing = np.allclose(goal[0] - goal[1], thing[0] - thing[1], atol=1e-3)
    assert (moves and not told_by_the_thing) == hidden
    assert says(warnings(env_id), "set env.kwargs.partially_observable=false to show it") == hidden
    assert not says(warnings(env_id, partially_observable=False), "its goal")


def test_a_task_whose_reset_may_hang_is_told() -> None:
    """Found with seeds 9, 31 and 34 of 40; a test of it would never end."""
    assert says(warnings("BabyAI-SynthS5R2-v0"), "with some seeds a reset never returns")


def test_the_rewards_and_buttons_of_vizdoom_are_told() -> None:
    assert says(warnings("MyWayHome-v1"), "the goal in its name earns nothing")
    assert not says(warnings("Basic-v1"), "the goal in its name")
    assert says(warnings("Basic-v1"), "set env.kwargs.use_combined_action=true")
    assert warnings("Basic-v1", use_combined_action=True) == ()


def test_any_number_but_0_presses_a_button_of_vizdoom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where ViZDoom writes a file of its own
    with made("Basic-v1", (7, 7, 7)) as env:
        assert env.action_space.low.tolist() == [-np.inf] * 3  # type: ignore[attr-defined]
        env.reset()
        actions = np.array([[0, 0, 0], [-0.3, 0, 0], [1, 0, 0]], dtype=np.float32)
        seen = [env.step(actions).observations for _ in range(4)][-1]
    assert (seen[1] == seen[2]).all() and (seen[0] != seen[1]).any()


def test_a_time_limit_that_counts_as_an_end_is_told() -> None:
    env_id = "RubiksCube-partly-scrambled-v0"
    with made(env_id) as env:
        last = steps(env, 20)[-1]
        assert last.terminated.all() and not last.truncated.any() and env.longest_episode == 20
    assert says(notes(env_id), "its time limit counts as an end of the task (terminated)")
    assert not says(notes("LevelBasedForaging-v0"), "its time limit counts")


def test_a_mask_that_only_gymnasium_gives_is_told_of() -> None:
    assert says(notes("Taxi-v3"), "EnvPool does not give the mask of actions that Gymnasium's Taxi-v4 gives")
    assert not says(notes("CliffWalking-v0"), "mask")


def test_lives_that_end_episodes_are_told_of() -> None:
    words = "after a lost life the game goes on"
    assert says(notes("Breakout-v5", episodic_life=True), words)
    assert not says(notes("Breakout-v5"), words) and not says(notes("Breakout-v5", episodic_life=False), words)


# --- bounds, and components that never change ------------------------------------------------------------------------


def test_a_bound_that_is_only_the_limit_of_its_type_counts_as_none() -> None:
    tiny, huge = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    space = spaces.Dict(a=spaces.Box(np.float32(tiny), np.float32(huge), (2,)), b=spaces.Box(-1, 1, (1,)))
    trusted = families.trusted_space(space)
    assert isinstance(trusted, spaces.Dict)
    assert trusted["a"] == spaces.Box(-np.inf, np.inf, (2,)) and trusted["b"] == space["b"]


@pytest.mark.parametrize("env_id", ["CheetahRun-v1", "LunarLander-v2", "BipedalWalker-v3"])
def test_observations_may_be_negative(env_id: str) -> None:
    with made(env_id) as env:
        env.reset()
        seen = env.step(drawn(env, np.random.default_rng(0))).observations
    for _, part in _parts(env.observation_space):
        assert not ((part.low > 0) & (part.low < 1e-30)).any()
    assert (seen < 0).any()


def _parts(space: spaces.Space[Any]) -> list[tuple[str, spaces.Box]]:
    found = space.spaces.items() if isinstance(space, spaces.Dict) else [("", space)]
    return [(name, part) for name, part in found if isinstance(part, spaces.Box)]


def test_components_that_are_always_0_stay_0_when_they_are_scaled() -> None:
    with made("FishUpright-v1") as env:
        rows = np.concatenate([step.observations for step in steps(env, 20)])
    constant = (rows == 0).all(axis=0)
    assert constant.sum() == 3  # `target`, of another task
    scale = RunningScale((rows.shape[1],), enabled=True)
    scale.merge(sample_moments(torch.from_numpy(rows)))
    scaled = scale.frozen()(rows)
    assert np.isfinite(scaled).all() and (scaled[:, constant] == 0).all()


# --- packages that Gymnasium lacks -----------------------------------------------------------------------------------


@pytest.fixture
def without_box2d(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "Box2D")


def _hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    found = envpool_ids.importlib.util.find_spec
    monkeypatch.setattr(
        envpool_ids.importlib.util, "find_spec", lambda name, *more: None if name == package else found(name, *more)
    )


@pytest.mark.usefixtures("without_box2d")
@pytest.mark.parametrize("env_id", ["LunarLander-v3", "BipedalWalker-v3", "CarRacing-v3"])
def test_a_task_whose_package_is_missing_is_envpool_s(env_id: str) -> None:
    env = EnvConfig(id=env_id)
    check_environment(env)
    choice = backend_choice(env)
    assert choice.name == evaluation_backend(env) == "envpool"
    assert choice.notes[0] == (
        f"{env_id}: needs the package Box2D in Gymnasium (pip install 'gymnasium[box2d]'), so EnvPool also plays the "
        "evaluations"
    )


@pytest.mark.usefixtures("without_box2d")
def test_gymnasium_by_name_says_what_to_install() -> None:
    with pytest.raises(ConfigError) as refused:
        check_environment(EnvConfig(id="LunarLander-v3", backend="gymnasium"))
    assert str(refused.value) == (
        "env.id=LunarLander-v3: needs the package Box2D in Gymnasium; pip install 'gymnasium[box2d]'"
    )


def test_mujoco_s_own_package_is_not_needed_where_envpool_has_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "mujoco")
    env = EnvConfig(id="Hopper-v5")
    check_environment(env)
    assert backend_choice(env).name == evaluation_backend(env) == "envpool"
    alone = make_env(env)
    assert alone.reset(seed=1)[0].shape == (11,)
    with pytest.raises(ConfigError, match=r"^env\.id=Hopper-v5: needs the package mujoco in Gymnasium; pip install"):
        check_environment(EnvConfig(id="Hopper-v5", backend="gymnasium"))


def test_a_missing_package_is_named_where_envpool_has_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "Box2D")
    monkeypatch.setattr(envpool_ids, "has", lambda _: False)
    with pytest.raises(ConfigError, match=r"^env\.id=CarRacing-v3: needs the package Box2D in Gymnasium; pip install"):
        check_environment(EnvConfig(id="CarRacing-v3"))


@pytest.mark.parametrize("env_id", ["Cig-v1", "MultiDuel-v1"])
def test_what_would_end_the_process_is_refused(env_id: str) -> None:
    with pytest.raises(ConfigError, match=rf"^env\.id={env_id}: is a game of several players, which EnvPool cannot st"):
        check_environment(EnvConfig(id=env_id))


# --- files and libraries that are not there --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "answer"),
    [
        ("Sudoku-v0", r"failed to open Sudoku database: .*; EnvPool does not ship this database; choose another"),
        ("VizdoomCustom-v1", r"; name the files of your scenario: env\.kwargs=\{cfg_path: .*, wad_path: .*\}$"),
    ],
)
def test_a_missing_file_is_told_with_what_helps(env_id: str, answer: str) -> None:
    with pytest.raises(ConfigError, match=answer) as refused:
        check_environment(EnvConfig(id=env_id))
    assert str(refused.value).startswith(f"env.id={env_id}: cannot be made: ")
    assert "\n" not in str(refused.value)


def test_a_scenario_whose_file_is_not_there_says_what_to_name() -> None:
    with pytest.raises(ConfigError) as refused:
        check_environment(EnvConfig(id="VizdoomCustom-v1", kwargs={"cfg_path": "/nowhere/game.cfg"}))
    assert str(refused.value).endswith(
        "does not exist; name files that are there: env.kwargs={cfg_path: /my/game.cfg, wad_path: /my/game.wad}"
    )


def test_procgen_without_qt_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    words = (  # of EnvPool 1.2.5 where libQt5Core.so.5 is hidden
        "EnvPool Procgen requires the system Qt 5 runtime on Linux. Install the Qt5 Core/Gui shared libraries, for "
        "example via `apt install qtbase5-dev` or `dnf install qt5-qtbase`."
    )

    def fail(*_: object, **__: object) -> None:
        raise ImportError(words)

    monkeypatch.setattr(envpool_ids.package(), "make", fail)
    with pytest.raises(ConfigError, match=r"apt-get install libqt5core5a libqt5gui5\)$"):
        check_environment(EnvConfig(id="CoinrunEasy-v0"))


def test_gymnasium_itself_is_not_asked_for_what_envpool_alone_has() -> None:
    assert "CheetahRun-v1" not in gymnasium.registry
    made_env = make_vector_env(EnvConfig(id="CheetahRun-v1", num_threads=1), [1], "envpool")
    assert made_env.longest_episode == 1000
    made_env.close()


@pytest.mark.parametrize(("env_id", "counts"), [("Snake-v1", 4001), ("Tetris-v0", 401), ("TSP-v1", None)])
def test_the_count_of_the_last_step_is_in_the_space(env_id: str, counts: int | None) -> None:
    space = environment_spaces(EnvConfig(id=env_id))[0]
    assert isinstance(space, spaces.Dict)
    counted = space.spaces.get("step_count")
    assert (counted if counted is None else counted.n) == counts  # type: ignore[attr-defined]
