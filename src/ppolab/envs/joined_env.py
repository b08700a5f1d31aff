"""Several groups of the same environment as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppolab.envs.action_masks import Flags
from ppolab.envs.snapshot import State
from ppolab.envs.vector_env import Game, Step, VectorEnv


class JoinedEnv(VectorEnv):
    """Several groups of the same environment as one; a collector can step one group while it acts for another."""

    def __init__(self, groups: Sequence[VectorEnv]) -> None:
        first = groups[0]
        super().__init__(
            first.env_id, first.observation_space, first.action_space, sum(group.num_envs for group in groups),
            masked=first.masked,
        )  # fmt: skip
        self.backend = first.backend
        self._groups = tuple(groups)
        ends = np.cumsum([group.num_envs for group in groups]).tolist()
        self._rows = [slice(end - group.num_envs, end) for group, end in zip(groups, ends, strict=True)]

    @property
    def waiting_since(self) -> float | None:
        return min((since for group in self._groups if (since := group.waiting_since) is not None), default=None)

    @property
    def groups(self) -> Sequence[tuple[slice, VectorEnv]]:
        return list(zip(self._rows, self._groups, strict=True))

    @property
    def longest_episode(self) -> int | None:
        return self._groups[0].longest_episode

    @property
    def tells_game(self) -> bool:
        return self._groups[0].tells_game

    @property
    def masks(self) -> Flags | None:
        parts = [masks for group in self._groups if (masks := group.masks) is not None]
        return np.concatenate(parts) if parts else None

    @property
    def mask_source(self) -> str:
        return self._groups[0].mask_source

    def reset(self) -> NDArray[Any]:
        return np.concatenate([group.reset() for group in self._groups])

    def reset_some(self, which: NDArray[np.bool_]) -> NDArray[Any]:
        return np.concatenate([group.reset_some(which[rows]) for rows, group in self.groups if which[rows].any()])

    def send(self, actions: NDArray[Any]) -> None:
        for rows, group in self.groups:
            group.send(actions[rows])

    def receive(self) -> Step:
        steps = [group.receive() for group in self._groups]
        return Step(
            np.concatenate([step.observations for step in steps]),
            np.concatenate([step.rewards for step in steps]),
            np.concatenate([step.terminated for step in steps]),
            np.concatenate([step.truncated for step in steps]),
            np.concatenate([step.valid for step in steps]),
            _joined_info(steps),
            _joined_game(steps),
        )

    def state(self) -> State | None:
        """Return the states of all environments in one list: a resumed run may have other threads, and so groups."""
        states = [state for group in self._groups if (state := group.state()) is not None]
        if len(states) < len(self._groups):
            return None
        return {
            "environments": list(chain(*(state["environments"] for state in states))),
            "ended": np.concatenate([state["ended"] for state in states]),
            "steps": np.concatenate([state["steps"] for state in states]),
        }

    def restore(self, state: State) -> None:
        steps = np.broadcast_to(state["steps"], self.num_envs)  # one number for all in earlier versions
        for rows, group in self.groups:
            own = {"environments": state["environments"][rows], "ended": state["ended"][rows], "steps": steps[rows]}
            group.restore({**state, **own})

    def restart(self, seeds: Sequence[int]) -> None:
        for rows, group in self.groups:
            group.restart(seeds[rows])

    def use_kwargs(self, kwargs: dict[str, Any]) -> None:
        for group in self._groups:
            group.use_kwargs(kwargs)

    def close(self) -> None:
        for group in self._groups:
            group.close()


def _joined_info(steps: Sequence[Step]) -> NDArray[np.float64] | None:
    """Return the info of all groups, NaN for those in which no episode ended; None where none did."""
    widths = {step.info.shape[1] for step in steps if step.info is not None}
    if not widths:
        return None
    nothing = [np.full((len(step.rewards), *widths), np.nan) for step in steps]
    return np.concatenate(
        [empty if step.info is None else step.info for step, empty in zip(steps, nothing, strict=True)]
    )


def _joined_game(steps: Sequence[Step]) -> Game | None:
    games = [step.game for step in steps if step.game is not None]
    return Game(*map(np.concatenate, zip(*games, strict=True))) if games else None
