"""Let somebody use some of the environments of a batch as if there were no others."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ppolab.envs.action_masks import Flags
from ppolab.envs.snapshot import State
from ppolab.envs.vector_env import VectorEnv
from ppolab.envs.warp.backend import WarpEnv
from ppolab.envs.warp.worlds_env import WORLDS


class PartOfEnv(VectorEnv):
    """The environments `rows` of mujoco-warp's worlds. Steps are taken by the whole batch alone."""

    backend = WarpEnv.backend

    def __init__(self, whole: WarpEnv, rows: slice) -> None:
        super().__init__(whole.env_id, whole.observation_space, whole.action_space, rows.stop - rows.start)
        self._whole = whole
        self._rows = rows

    @property
    def masks(self) -> Flags | None:
        return None

    @property
    def mask_source(self) -> str:
        return ""

    @property
    def longest_episode(self) -> int | None:
        return self._whole.longest_episode

    @property
    def waiting_since(self) -> float | None:
        return self._whole.waiting_since

    def reset(self) -> NDArray[Any]:
        return self.reset_some(np.ones(self.num_envs, dtype=np.bool_))

    def reset_some(self, which: NDArray[np.bool_]) -> NDArray[Any]:
        chosen = np.zeros(self._whole.num_envs, dtype=np.bool_)
        chosen[self._rows] = which
        return self._whole.reset_some(chosen)

    def state(self) -> State | None:
        """Return what the environments would tell that a run of these alone had."""
        state = self._whole.state()
        assert state is not None
        (worlds,) = state["environments"]
        own = {name: values[self._rows].copy() for name, values in worlds[WORLDS].items()}
        return {
            "environments": [{WORLDS: own}],
            "ended": state["ended"][self._rows].copy(),
            "steps": state["steps"][self._rows].copy(),
        }

    def close(self) -> None:
        """Leave the batch as it is."""

    def send(self, actions: NDArray[Any]) -> NoReturn:
        raise NotImplementedError(WHOLE)

    def receive(self) -> NoReturn:
        raise NotImplementedError(WHOLE)

    def restore(self, state: State) -> NoReturn:
        raise NotImplementedError(WHOLE)

    def restart(self, seeds: Any) -> NoReturn:
        raise NotImplementedError(WHOLE)

    def use_kwargs(self, kwargs: dict[str, Any]) -> NoReturn:
        raise NotImplementedError(WHOLE)


WHOLE = "the whole batch is stepped, and made anew, or nothing of it"
