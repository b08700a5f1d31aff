"""Episodes of a task of mjlab's in N worlds, which begin anew on the step after an episode's end (NEXT_STEP).

mjlab resets a world in the step that ends its episode, and then gives the first observation of the next episode. The
final one, from whose value a truncated episode is bootstrapped, is never computed. Its environment resets those worlds
of which its manager of terminations says that they are done. So `LateResets` stands in for that manager, and says so
one step later. Then the step that ends an episode gives the final observation, the next one the first observation,
and no step costs more than mjlab's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ppolab.envs.warp import mjlab_state
from ppolab.envs.warp.worlds_env import WorldStep

OWN = ("ended", "observations")
"""Attributes of `MjlabWorlds` that belong to its state."""


class LateResets:
    """Stand in for mjlab's manager of terminations: a world is done one step after its episode ended.

    Meanwhile its simulation takes one more step, which nobody sees. What a reset reads of how the episode ended is as
    it was at the end.

    Attributes:
        late: [N] bool, worlds whose episode the step before ended.
    """

    def __init__(self, manager: Any, late: Tensor) -> None:
        self._manager = manager
        self.late = late

    def compute(self) -> Tensor:
        """Find out which episodes end with this step; return the worlds that are to be reset in it."""
        flags = (self._manager.terminated, self._manager.time_outs)
        before = [flag.clone() for flag in flags]
        self._manager.compute()
        for flag, earlier in zip((self._manager.terminated, self._manager.time_outs), before, strict=True):
            flag.copy_(torch.where(self.late, earlier, flag))
        return self.late

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


class OwnNumbers:
    """A stream of random numbers for code that draws from PyTorch's global generators.

    So that evaluations, dropout and other worlds in this process take no numbers from it, and it none from them.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        outside = self.states()
        torch.manual_seed(seed)
        self._own = self.states()
        self._set(outside)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Let PyTorch's global generators be this stream inside the block."""
        outside = self.states()
        self._set(self._own)
        try:
            yield
        finally:
            self._own = self.states()
            self._set(outside)

    def states(self) -> dict[str, Tensor]:
        """Return the states of the global generators: inside the block those of this stream."""
        on_gpu = {"cuda": torch.cuda.get_rng_state(self._device)} if self._device.type == "cuda" else {}
        return {"cpu": torch.get_rng_state(), **on_gpu}

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Go on from what `states` returned inside the block."""
        self._own = {**self._own, **{name: state.clone() for name, state in states.items() if name in self._own}}

    def _set(self, states: Mapping[str, Tensor]) -> None:
        torch.set_rng_state(states["cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], self._device)


class MjlabWorlds:
    """N worlds of an environment of mjlab's.

    Args:
        env: mjlab's ManagerBasedRlEnv, which resets worlds itself.
        groups: of its observations, which are seen side by side.
        numbers: in whose block it was made, and draws.

    Attributes:
        longest: the actions after which an episode is truncated; None: never.
    """

    def __init__(self, env: Any, groups: Sequence[str], numbers: OwnNumbers) -> None:
        self._env, self._groups, self._numbers = env, tuple(groups), numbers
        device = torch.device(env.device)
        self._ended = torch.zeros(env.num_envs, dtype=torch.bool, device=device)
        self._observations = torch.zeros(0, device=device)
        manager = env.termination_manager
        limited = any(manager.get_term_cfg(name).time_out for name in manager.active_terms)
        self.longest = int(env.max_episode_length) if limited else None
        self._resets = LateResets(manager, self._ended)
        env.termination_manager = self._resets

    def reset(self, which: Tensor | None = None) -> Tensor:
        """Begin new episodes where `which` [N] bool, or in all worlds; return all latest observations [N, D]."""
        chosen = torch.ones_like(self._ended) if which is None else which
        with self._numbers.drawn():
            seen, _ = self._env.reset(env_ids=chosen.nonzero().flatten())
        observations = self._joined(seen)
        whole = self._observations.shape == observations.shape
        self._observations = torch.where(chosen[:, None], observations, self._observations) if whole else observations
        self._ended = self._ended & ~chosen
        return self._observations

    def step(self, actions: Tensor) -> WorldStep:
        """Take one step with actions [N, A]; those of worlds whose episode had ended are ignored."""
        began = self._resets.late = self._ended
        with self._numbers.drawn():
            seen, reward, failed, timed_out, _ = self._env.step(actions)
        observations = self._joined(seen)
        finite = observations.isfinite().all(1) & reward.isfinite()
        diverged = ~finite & ~began
        self._observations = torch.where(finite[:, None], observations, self._observations)
        final = failed | timed_out if self._env.cfg.is_finite_horizon else failed
        terminated = (final | diverged) & ~began
        truncated = timed_out & ~began
        rewards = torch.where(finite & ~began, reward, torch.zeros_like(reward))
        self._ended = terminated | truncated
        return WorldStep(self._observations, rewards, terminated, truncated, ~began, diverged)

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that `restore` needs, on the CPU."""
        with self._numbers.drawn():
            numbers = self._numbers.states()
        own = {name: getattr(self, f"_{name}").cpu().clone() for name in OWN}
        return {
            **{f"own.{name}": value for name, value in own.items()},
            **{f"numbers.{name}": value for name, value in numbers.items()},
            **mjlab_state.captured(self._env),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned.

        Raises:
            StateNotReached: it is of worlds that hold something else.
        """
        mjlab_state.restore(self._env, {name: value for name, value in state.items() if name.startswith("env")})
        for name in OWN:
            setattr(self, f"_{name}", state[f"own.{name}"].to(self._ended.device, copy=True))
        self._resets.late = self._ended
        self._numbers.restore({name.removeprefix("numbers."): value for name, value in state.items()})

    def _joined(self, seen: Mapping[str, Tensor]) -> Tensor:
        """Return the groups of observations [N, D] in memory of their own."""
        return torch.cat([seen[name] for name in self._groups], dim=1)
