"""What is peculiar about EnvPool's families of environments: one table, and what a run says of it.

Every line was seen by running the ids it names; `tests/unit/envs/test_families.py` runs some of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from ppolab.envs.envpool_tasks import end_condition, plain_name

Ids = Mapping[str, str]
"""By family, such as `jumanji` or `mujoco.dmc`: a regular expression of the plain names of its tasks."""

ALL = ".*"


@dataclass(frozen=True)
class Peculiarity:
    """Hold what a user should know about some of EnvPool's tasks.

    Attributes:
        told: the words, and the fix where there is one.
        ids: the tasks that it holds for.
        affects_results: it is a warning: what a run measures is not what one would expect.
        only_with, unless: an argument of env.kwargs and the value with which it needs it, or is removed by it.
    """

    told: str
    ids: Ids
    affects_results: bool = False
    only_with: tuple[str, Any] | None = None
    unless: tuple[str, Any] | None = None

    def holds(self, family: str, env_id: str, kwargs: Mapping[str, Any]) -> bool:
        """Return whether it is to be told of a task with these arguments."""
        given = tuple(kwargs.items())
        wanted = self.only_with is None or self.only_with in given
        return wanted and self.unless not in given and _is_of(self.ids, family, env_id)


@dataclass(frozen=True)
class Told:
    """Hold what is said about a task when a run starts."""

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


HIDDEN_ENDS: Ids = {
    "box2d": ALL,
    "classic_control": ALL,
    "gfootball": ALL,
    "highway": "(?i)(?!Highway|LaneKeeping|Merge).*",
    "jumanji": "LevelBasedForaging|Sokoban",
    "minigrid": ALL,
    "mujoco.dmc": "Lqr.*",
    "mujoco.gym": ALL,
    "mujoco.myosuite": ALL,
    "mujoco.robotics": "FrankaKitchen|PointMaze.*",
    "procgen": ALL,
    "toy_text": "(?!Blackjack|Catch|CliffWalking|NChain).*",
    "vizdoom": ALL,
}
"""Where a task can end by itself on the last step that its time limit allows, unless `end_condition` tells it."""

ENDS_IN_INFO: Mapping[str, tuple[str, ...]] = {
    "atari": ("terminated",),
    "highway": ("crashed", "is_success"),
    "mujoco.playground": ("terminated",),
}
"""By family: entries of the info that are true where the task itself has ended, whatever the flags say."""

REWARDED_AT_ENDS = ("minigrid",)
"""Families that give a reward other than 0 only where the task itself ends."""

NO_LIMIT = 2**31 - 1
"""EnvPool's `max_episode_steps` of a task without a time limit; a few have 0."""

UNLIMITED: Ids = {"highway": "(?i)LaneKeeping|Merge", "jumanji": "Game2048"}
"""Tasks whose `max_episode_steps` in EnvPool ends nothing."""

ONE_STEP_MORE: Ids = {"gfootball": ALL}
"""Tasks whose episodes are one step longer than their limit."""

LIMIT_FIXED: Ids = {
    "highway": ALL,
    "jumanji": "(?!Sokoban).*",
    "pgx": ALL,
    "procgen": ALL,
    "toy_text": "Blackjack|Catch|CliffWalking.*",
}
"""Tasks that take the argument max_episode_steps and ignore it."""

CLOSED_IN: Ids = {"jumanji": "Maze"}
"""Tasks in which an episode may begin where no action is allowed; any one ends it then."""

CRASHING: Ids = {"vizdoom": "Cig|MultiDuel"}
"""Games of several players, without the others of which ViZDoom ends the process."""

LEAST: Mapping[str, Mapping[str, int]] = {"minigrid": {"agent_view_size": 7}}
"""By family: arguments of `env.kwargs` that must not be smaller, since EnvPool then writes outside of its memory."""

PECULIARITIES = (
    Peculiarity(
        "every episode ends after one step, whatever the action, so half of a rollout is no experience",
        {"mujoco.myosuite": "MyoHand.*Fixed|myo(Fati|Reaf|Sarc)?Challenge(ChaseTag.*|OslRunFixed)"},
        affects_results=True,
    ),
    Peculiarity(
        "is one single problem: seeds and resets change nothing, so several seeds tell of the network's start only",
        {
            "highway": "(?i)(?!Highway|Merge|Parking).*",
            "jumanji": "BinPack|CVRP|Connector|FlatPack|JobShop|LevelBasedForaging|MMST|MultiCVRP|PacMan|"
            "RobotWarehouse|SearchAndRescue|Sokoban|Tetris",
            "minigrid": r"MiniGrid(DistShift|Empty)\d.*",
            "mujoco.myosuite": "(?!MyoHand.*Random|.*Baoding).*",
            "procgen": ".*Exploration",
            "toy_text": "CliffWalking",
        },
        affects_results=True,
    ),
    Peculiarity(
        "its goal moves with every episode, and is hidden (the last three numbers of an observation are 0); set "
        "env.kwargs.partially_observable=false to show it",
        {
            "mujoco.metaworld": "Assembly|Basketball|BoxClose|CoffeePu.*|Disassemble|Hammer|HandInsert|PegInsertSide|"
            "PickOutOfHole|PickPlace.*|PlateSlide.*|Push.*|Reach.*|ShelfPlace|Soccer|Stick.*|Sweep"
        },
        affects_results=True,
        unless=("partially_observable", False),
    ),
    Peculiarity(
        "its episodes never end, so training shows no returns, and an evaluation counts what it has when it is cut off",
        {"highway": "(?i)LaneKeeping"},
        affects_results=True,
    ),
    Peculiarity(
        "with some seeds a reset never returns; a run that hangs ends after env.timeout seconds, so try another seed",
        {"minigrid": "BabyAISynthS5R2"},
        affects_results=True,
    ),
    Peculiarity(
        "its rewards are changes of health, ammunition and kills, so the goal in its name earns nothing",
        {"vizdoom": "MyWayHome|TakeCover"},
        affects_results=True,
    ),
    Peculiarity(
        "an action is one number per button, and any number but 0 presses it; set env.kwargs.use_combined_action=true "
        "to choose among combinations of buttons",
        {"vizdoom": ALL},
        affects_results=True,
        unless=("use_combined_action", True),
    ),
    Peculiarity(
        "its time limit counts as an end of the task (terminated), so nothing is expected to follow it",
        {
            "jumanji": "Cleaner|Connector|JobShop|Maze|PacMan|RobotWarehouse|RubiksCube.*|SearchAndRescue|"
            "SlidingTilePuzzle|Snake|Tetris"
        },
    ),
    Peculiarity(
        "a few of its episodes begin in a closed cell, where the mask allows nothing: any action is taken then, and "
        "ends the episode",
        CLOSED_IN,
    ),
    Peculiarity("EnvPool does not give the mask of actions that Gymnasium's Taxi-v4 gives", {"toy_text": "Taxi"}),
    Peculiarity(
        "after a lost life the game goes on: the first observations of an episode still show the one before",
        {"atari": ALL},
        only_with=("episodic_life", True),
    ),
)
"""What is told; see also `HIDDEN_ENDS`."""


def told(family: str, env_id: str, kwargs: Mapping[str, Any]) -> Told:
    """Return what is to be said of a task of EnvPool's with these arguments, one line each."""
    held = [each for each in PECULIARITIES if each.holds(family, env_id, kwargs)]
    notes = tuple(f"{env_id}: {each.told}" for each in held if not each.affects_results)
    warnings = tuple(f"{env_id}: {each.told}" for each in held if each.affects_results)
    return Told(notes + _on_hidden_ends(family, env_id), warnings)


def _on_hidden_ends(family: str, env_id: str) -> tuple[str, ...]:
    if end_condition(env_id) is not None or not _is_of(HIDDEN_ENDS, family, env_id):
        return ()
    return (
        f"{env_id}: EnvPool does not tell an end on the last allowed step of an episode from its time limit; such a "
        "step counts as truncated only",
    )


def longest_episode(family: str, env_id: str, allowed: int) -> int | None:
    """Return after how many steps an episode is truncated, of which EnvPool says `allowed`; None where none is."""
    if not 0 < allowed < NO_LIMIT or _is_of(UNLIMITED, family, env_id):
        return None
    return allowed + 1 if _is_of(ONE_STEP_MORE, family, env_id) else allowed


def may_allow_nothing(family: str, env_id: str) -> bool:
    """Return whether a mask of actions may allow none of them while an episode goes on."""
    return _is_of(CLOSED_IN, family, env_id)


def cannot_start(family: str, env_id: str) -> str:
    """Return why a task must not even be made; an empty string where it may be."""
    return "is a game of several players, which EnvPool cannot start" if _is_of(CRASHING, family, env_id) else ""


def cannot_draw(family: str) -> str:
    """Return why EnvPool has no pictures of a family; an empty string where it has."""
    return "" if family != "toy_text" else "EnvPool does not draw tasks of toy text"


def is_drawn_apart(family: str) -> bool:
    """Return whether EnvPool may end the process when it draws a family: MuJoCo does where it finds no OpenGL."""
    return family.startswith("mujoco.")


def keeps_limit(family: str, env_id: str) -> bool:
    """Return whether the argument max_episode_steps ends the episodes of a task."""
    return not _is_of(LIMIT_FIXED, family, env_id)


def _is_of(ids: Ids, family: str, env_id: str) -> bool:
    return re.fullmatch(ids.get(family, ""), plain_name(env_id)) is not None


def trusted_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return a space of EnvPool's without bounds that are only the limits of its numbers' type.

    EnvPool gives the smallest positive number as the lower bound of what has none, in dm_control, Box2D and ViZDoom.
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: trusted_space(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([trusted_space(part) for part in space.spaces])
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        return space
    limits = np.finfo(space.dtype)
    low = np.where((space.low == limits.tiny) | (space.low == limits.min), -np.inf, space.low)
    high = np.where(space.high == limits.max, np.inf, space.high)
    return spaces.Box(low, high, dtype=space.dtype.type)


MISSING = {
    "Qt 5": "install Qt 5 Core and Gui (Debian, Ubuntu: apt-get install libqt5core5a libqt5gui5)",
    "Sudoku database": "EnvPool does not ship this database; choose another environment",
    "scenarios/.cfg": "name the files of your scenario: env.kwargs={cfg_path: /my/game.cfg, wad_path: /my/game.wad}",
    '" does not exist': "name files that are there: env.kwargs={cfg_path: /my/game.cfg, wad_path: /my/game.wad}",
}
"""By what EnvPool's error says: what helps against something that is not there."""


def help_for(error: str) -> str:
    """Return what helps against an error of EnvPool's, which begins with a semicolon; else an empty string."""
    return next((f"; {fix}" for text, fix in MISSING.items() if text in error), "")
