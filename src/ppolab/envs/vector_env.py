"""The interface of all vector environments."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.envs.action_masks import (
    ENTRY,
    FIX,
    OBSERVED,
    Flags,
    as_flags,
    chosen_space,
    has_entry,
    is_observed,
    network_space,
    open_where_empty,
)
from ppolab.envs.choices import choice_sizes, with_choices
from ppolab.envs.snapshot import State
from ppolab.envs.spaces import ActionMapping, UnreadableError, action_decoder, check_spaces, row_encoder
from ppolab.envs.tensor_env import TensorEnv
from ppolab.errors import EnvError

Answer = TypeVar("Answer")


class Game(NamedTuple):
    """What games themselves gave with a step of N environments, where the learner sees other rewards or ends.

    Attributes:
        rewards: [N] float64, of the score. over: [N] bool, where the game ended; a lost life is no such end.
    """

    rewards: NDArray[np.float64]
    over: NDArray[np.bool_]


@dataclass(frozen=True)
class Step:
    """The results of one step of N environments.

    Attributes:
        observations: [N, W] raw rows as `layout` says, after the action. At an episode's end these
            are of its real final observation.
        rewards: [N] float64. terminated, truncated: [N] bool.
        valid: [N] bool; False where the step only reset an environment whose episode had ended: no experience.
        info: [N, K] float64, the K entries that `env.log_info` names, of the episodes that ended with this step; NaN
            for one that an episode did not have. None where no episode ended, or none are named.
        game: None where rewards and ends are those of the game; see `VectorEnv.tells_game`.
    """

    observations: NDArray[Any]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    info: NDArray[np.float64] | None = None
    game: Game | None = None

    @property
    def over(self) -> NDArray[np.bool_]:
        """[N] bool, where the game ended; the episode, where the learner sees the game as it is."""
        return self.terminated | self.truncated if self.game is None else self.game.over


class Received(NamedTuple):
    """The results of one step of N environments as a backend has them; `info` and `game` as in `Step`.

    Attributes:
        masks: [N, A] numbers, not 0 where the info allows an action; None without such an entry.
    """

    observations: Any
    rewards: Any
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    info: NDArray[np.float64] | None = None
    game: Game | None = None
    masks: Any = None


class Begun(NamedTuple):
    """A batch of N first observations as a backend has them; `masks` as in `Received`."""

    observations: Any
    masks: Any = None


class VectorEnv(ABC):
    """N copies of an environment that reset themselves on the step after an episode's end (NEXT_STEP).

    Observations are rows, of which `layout` says what they hold.

    `step` is `send` and `receive`. Between the two the caller can do other work, where the backend steps in the
    background.

    Args:
        masked: look for a mask of the allowed actions, see `ppolab.envs.action_masks`.

    Attributes:
        action_space: that of one environment. policy_space: what a policy chooses from, see `ppolab.envs.choices`.
    """

    backend: str

    def __init__(
        self,
        env_id: str,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        num_envs: int,
        *,
        masked: bool = False,
    ) -> None:
        check_spaces(env_id, observation_space, action_space)
        self.env_id = env_id
        self.num_envs = num_envs
        self.observation_space = observation_space
        self.action_space = action_space
        self.masked = masked
        self.policy_space = chosen_space(observation_space, action_space) if masked else with_choices(action_space)
        self.layout, self._encode = row_encoder(
            network_space(observation_space, action_space) if masked else observation_space
        )

    @property
    def groups(self) -> Sequence[tuple[slice, VectorEnv]]:
        """Return (rows, environments) of the groups that step independently; together they have all rows."""
        return [(slice(0, self.num_envs), self)]

    @property
    def on_device(self) -> TensorEnv | None:
        """Return these environments as they take and give tensors; None where they have arrays only."""
        return None

    @property
    @abstractmethod
    def masks(self) -> Flags | None:
        """Return the actions [N, A] bool that the latest observations allow; None without a mask, or before a reset.

        Each N has one; after an episode's end, where no action is taken, it may be any.
        """

    @property
    @abstractmethod
    def mask_source(self) -> str:
        """Return where a mask was found, as `info['action_mask']`, used or not; empty without it, or before a reset."""

    @abstractmethod
    def reset(self) -> NDArray[Any]:
        """Start a new episode in all environments; return their first observations [N, W]."""

    @abstractmethod
    def reset_some(self, which: NDArray[np.bool_]) -> NDArray[Any]:
        """Start a new episode in the K environments where `which` [N]; return their first observations [K, W]."""

    @property
    @abstractmethod
    def longest_episode(self) -> int | None:
        """Return the number of steps after which an episode is truncated; None without such a limit."""

    @property
    def tells_game(self) -> bool:
        """Return whether rewards and ends of a step are not those of the game, which `Step.game` then tells."""
        return False

    @abstractmethod
    def send(self, actions: NDArray[Any]) -> None:
        """Start a step with the policy's actions [N, ...]."""

    @abstractmethod
    def receive(self) -> Step:
        """Wait for the step that `send` started.

        Raises:
            EnvError: an environment raised, or returned a non-finite or wrongly shaped value.
        """

    def step(self, actions: NDArray[Any]) -> Step:
        """Send the policy's actions [N, ...] and receive the step."""
        self.send(actions)
        return self.receive()

    @property
    @abstractmethod
    def waiting_since(self) -> float | None:
        """Return the time.monotonic() since which the caller waits for an answer; None when nobody waits."""

    @abstractmethod
    def state(self) -> State | None:
        """Return a snapshot for `restore`; None where the environments do not show their state."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Continue from the snapshot `state` of the same environments, which may be of another process.

        Raises:
            StateNotReached: the environments cannot be brought to it.
        """

    @abstractmethod
    def restart(self, seeds: Sequence[int]) -> None:
        """Replace all environments by new ones with these seeds; `reset` must follow."""

    @abstractmethod
    def use_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Make environments with these arguments from the next `restart` on."""

    @abstractmethod
    def close(self) -> None:
        """Free processes, threads and simulators."""


class BackendEnv(VectorEnv):
    """The part that backends share: encoding, checks and `valid`. They implement the abstract methods at its end."""

    def __init__(
        self,
        env_id: str,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        num_envs: int,
        *,
        mapping: ActionMapping,
        first_index: int = 0,
        masked: bool = False,
    ) -> None:
        super().__init__(env_id, observation_space, action_space, num_envs, masked=masked)
        self._may_allow_nothing = False
        self._mask_is_observed = masked and is_observed(observation_space, action_space)
        self._masks: Flags | None = None
        self._decode = action_decoder(self.policy_space, mapping)
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._steps = np.zeros(num_envs, dtype=np.int64)  # of each environment; those that only reset do not count
        self._first_index = first_index
        self._waiting_since: float | None = None

    @property
    def waiting_since(self) -> float | None:
        return self._waiting_since

    @property
    def masks(self) -> Flags | None:
        return self._masks

    @property
    def mask_source(self) -> str:
        if self.masked and has_entry(self.observation_space):
            return OBSERVED
        return self._mask_in_info()

    def reset(self) -> NDArray[Any]:
        begun = self._awaited(self._reset)
        observations = self._rows_of(begun.observations)
        self._check_rows(observations)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._masks = self._masks_of(begun.observations, begun.masks)
        return observations

    def reset_some(self, which: NDArray[np.bool_]) -> NDArray[Any]:
        begun = self._awaited(lambda: self._reset_some(which))
        observations = self._rows_of(begun.observations)[which]
        self._check_rows(observations, np.flatnonzero(which))
        self._ended &= ~which
        if self._masks is not None:
            rows = self._masks.copy()
            given = self._raw_masks(begun.observations, begun.masks)
            assert given is not None
            rows[which] = given[which]
            self._masks = self._with_choices(rows)
        return observations

    def send(self, actions: NDArray[Any]) -> None:
        self._send(self._decode(actions))

    def receive(self) -> Step:
        raw_observations, raw_rewards, terminated, truncated, info, game, masks = self._awaited(self._receive)
        valid = ~self._ended
        self._steps += valid
        observations = self._rows_of(raw_observations)
        rewards = np.asarray(raw_rewards, dtype=np.float64)
        self._check_rows(observations)
        self._check(rewards, "reward", (self.num_envs,))
        self._ended = terminated | truncated
        self._masks = self._masks_of(raw_observations, masks)
        return Step(observations, rewards, terminated, truncated, valid, info, game)

    def state(self) -> State | None:
        environments = self._awaited(self._captured)
        if environments is None:
            return None
        return {"environments": environments, "ended": self._ended.copy(), "steps": self._steps.copy()}

    def restore(self, state: State) -> None:
        self._restore(state["environments"])
        self._ended = state["ended"].copy()
        self._steps[:] = state["steps"]  # one number for all in checkpoints of earlier versions

    def restart(self, seeds: Sequence[int]) -> None:
        self._awaited(lambda: self._restart(seeds))
        self._steps[:] = 0

    def _awaited(self, answer: Callable[[], Answer]) -> Answer:
        self._waiting_since = time.monotonic()
        try:
            return answer()
        finally:
            self._waiting_since = None

    def _masks_of(self, observations: Any, in_info: Any) -> Flags | None:
        masks = self._raw_masks(observations, in_info)
        return None if masks is None else self._with_choices(masks)

    def _raw_masks(self, observations: Any, in_info: Any) -> Flags | None:
        given = observations[ENTRY] if self._mask_is_observed else in_info
        if given is None:
            return None
        try:
            return as_flags(np.asarray(given).reshape(self.num_envs, -1))
        except ValueError as error:
            raise EnvError(f"{self.env_id}: gave {OBSERVED} {error}, at step {self._steps.max()}; {FIX}") from None

    def _with_choices(self, masks: Flags) -> Flags:
        sizes = choice_sizes(self.policy_space)
        may_be_empty = self._ended | self._may_allow_nothing
        return open_where_empty(masks, may_be_empty, sizes, self.env_id, self._first_index, self._steps)

    def _rows_of(self, observations: Any) -> NDArray[Any]:
        """Return raw rows of a batch of observations; name the environments where they are none."""
        try:
            return self._encode(observations)
        except UnreadableError as error:
            who = f"environment {self._first_index + error.row}, at its step {self._steps[error.row]}"
            raise EnvError(f"{self.env_id}: {who}: {error}") from None

    def _check_rows(self, rows: NDArray[Any], indices: NDArray[np.intp] | None = None) -> None:
        """Raise EnvError unless observations, those of all environments or of `indices`, are as they must be."""
        count = self.num_envs if indices is None else len(indices)
        if self.layout.images:
            assert rows.shape == (count, self.layout.raw_width), rows.shape
            rows = self.layout.vector_of(rows)
        self._check(rows, "observation", (count, self.layout.vector_size), indices)

    def _check(
        self, values: NDArray[np.float64], what: str, shape: tuple[int, ...], indices: NDArray[np.intp] | None = None
    ) -> None:
        if values.shape != shape:
            step = self._steps.max()
            raise EnvError(f"{self.env_id}: step {step} returned a {what} of shape {values.shape}, not {shape}")
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            index = row if indices is None else int(indices[row])
            number = values[row][~finite[row]].flat[0]  # alone: an array is of several lines
            raise EnvError(
                f"{self.env_id}: environment {self._first_index + index} returned a non-finite {what} at its step "
                f"{self._steps[index]}: {number}"
            )

    @abstractmethod
    def _mask_in_info(self) -> str:
        """Return where a mask was found outside the observations; empty without one, or before a reset."""

    @abstractmethod
    def _reset(self) -> Begun:
        """Reset all environments."""

    @abstractmethod
    def _reset_some(self, which: NDArray[np.bool_]) -> Begun:
        """Reset some environments; return batches whose rows where `which` are of first observations."""

    @abstractmethod
    def _send(self, actions: NDArray[Any]) -> None:
        """Start a step with actions in the backend's own form."""

    @abstractmethod
    def _receive(self) -> Received:
        """Wait for the step."""

    @abstractmethod
    def _captured(self) -> list[State] | None:
        """Return the state of every environment, or None."""

    @abstractmethod
    def _restore(self, states: list[State]) -> None:
        """Bring every environment into its state."""

    @abstractmethod
    def _restart(self, seeds: Sequence[int]) -> None:
        """Replace all environments by new ones."""
