"""Collect experience: T steps of N environments under one policy and one normaliser."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.config.schema import EnvConfig
from ppolab.core.masks import masked_logits
from ppolab.core.moments import sample_moments
from ppolab.envs.action_masks import FIX
from ppolab.envs.factory import check_new_kwargs
from ppolab.envs.pool_calls import NotCallableError
from ppolab.envs.seeding import private_generators
from ppolab.envs.tensor_env import TensorEnv
from ppolab.envs.vector_env import VectorEnv
from ppolab.errors import EnvError
from ppolab.learning.actor import Actor
from ppolab.learning.actor_critic import ActorCritic, evaluating
from ppolab.learning.episode_statistics import EpisodeStatistics
from ppolab.learning.rollout import Episode, Memories, Rollout
from ppolab.learning.stacked_images import ChannelStore, StackedImages, can_store, last_rows
from ppolab.runtime.process_group import ALONE, ProcessGroup
from ppolab.training.acting import ActingOnce, ActingWithMemory, ActingWithMemoryInNative, LoopMemory, act
from ppolab.training.action_noise import ActionNoise
from ppolab.training.device_loop import DeviceTurn, collected_on_device
from ppolab.training.native_loop import NativeLoop, native_loop
from ppolab.training.steps import Steps

log = logging.getLogger(__name__)


class Collector:
    """Step a vector environment with a policy, and keep its place between rollouts.

    Every rank draws the noise of all ranks, from equal generators, and takes the share of its own environments.

    Args:
        stagger: environments begin their second episodes one after another.
        log_info: what the K columns of `Step.info` are.
        sequence_length: of the sequences that a policy with memory is trained on.
        noise_color: of continuous actions, see `ActionNoise`.
    """

    def __init__(
        self,
        env: VectorEnv,
        rollout_steps: int,
        gamma: float,
        generator: torch.Generator,
        group: ProcessGroup = ALONE,
        *,
        stagger: bool = False,
        log_info: Sequence[str] = (),
        sequence_length: int = 1,
        noise_color: float = 0.0,
    ) -> None:
        self._env = env
        self._log_info = tuple(log_info)
        self._noise = ActionNoise(generator, noise_color, rollout_steps)
        self._group = group
        self._gamma = gamma
        self._statistics = EpisodeStatistics(env.num_envs, gamma)
        rows = (rollout_steps, env.num_envs)
        self._next = env.reset().copy()  # [N, W] raw: what the next rollout begins with
        masks = env.masks  # which are known once environments were reset
        self._steps = Steps(
            _memory_of_raw(rollout_steps + 1, env, generator.device),
            np.empty(rows),
            np.empty(rows, dtype=np.bool_),
            np.empty(rows, dtype=np.bool_),
            np.empty(rows, dtype=np.bool_),
            np.empty((*rows, len(log_info))),
            np.empty(rows),
            np.empty(rows, dtype=np.bool_),
            None if masks is None else np.empty((rollout_steps + 1, *masks.shape), dtype=np.bool_),
        )
        self._next_masks = None if masks is None else masks.copy()  # [N, A] of `_next`
        self._stagger = stagger
        self._taken = 0  # steps of each environment since they began together
        self._sequence_length = sequence_length
        self._memory: Tensor | None = None  # [K, N, H] before `_next`; None: no policy with memory has acted yet
        self._loop: NativeLoop | None = None
        self._told = False

    def state(self) -> dict[str, Any] | None:
        """Return what `restore` needs to go on from here; None where the environments do not give their state."""
        envs = self._env.state()
        return envs and {
            "envs": envs, "observations": self._next.copy(), "episodes": self._statistics.state(),
            "taken": self._taken, **({} if self._next_masks is None else {"masks": self._next_masks.copy()}),
            **({} if self._memory is None else {"memory": self._memory.cpu().clone()}),
            **({} if (noise := self._noise.state()) is None else {"noise": noise}),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._env.restore(state["envs"])
        self._next[:] = state["observations"]
        if self._next_masks is not None:
            self._next_masks[:] = state["masks"]
        self._statistics.restore(state["episodes"])
        self._taken = state["taken"]
        self._memory = state.get("memory")
        self._noise.restore(state.get("noise"))

    def restart(self, seeds: Sequence[int]) -> None:
        """Begin new episodes in environments that are made anew; those under way are forgotten."""
        self._env.restart(seeds)
        self._next[:] = self._env.reset()
        self._take_masks(slice(None))
        self._statistics = EpisodeStatistics(self._env.num_envs, self._gamma)
        self._taken = 0
        self._memory = None

    def check_kwargs(self, env: EnvConfig) -> None:
        """Raise ConfigError unless the environments can be made as `env` says, which has other arguments."""
        with private_generators(0):  # of which an environment that is made to be looked at may draw
            check_new_kwargs(replace(env, backend=self._env.backend), self._env)

    def use_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Make environments with these arguments from the next `restart` on."""
        self._env.use_kwargs(kwargs)

    @torch.no_grad()
    def collect(self, policy: ActorCritic, native: Actor | None = None) -> Rollout:
        """Return the next T steps under `policy`, with its normaliser as it stands now.

        Args:
            native: computes `policy` faster.

        Raises:
            EnvError: see `VectorEnv.receive`.
        """
        memories = None
        with evaluating(policy):
            if policy.has_memory:
                observations, actions, parameters, values, memories = self._run_remembering(policy, native)
            elif self._env.layout.images:
                once = ActingOnce(policy, len(self._env.groups))
                observations, actions = self._run(policy, once.act)
                parameters, values = once.answers(last_rows(observations))
            else:
                observations, actions = self._run_plainly(policy, native)
                assert isinstance(observations, Tensor)
                parameters, values = (native or policy)(observations)
        return self._finished(policy, native, (observations, actions), (parameters, values), memories)

    def begin_on_device(self, policy: ActorCritic) -> DeviceTurn:
        """Return what a rollout on the device begins with, which somebody else collects; `finish_on_device` follows."""
        self._steps.observations[0, :] = self._next
        return DeviceTurn(self._steps, policy.scaling, self._drawn_noise(policy))

    @torch.no_grad()
    def finish_on_device(self, policy: ActorCritic, observations: Tensor, actions: Tensor) -> Rollout:
        """Return the rollout whose steps were filled since `begin_on_device`.

        Args:
            observations: [T+1, N, W] scaled. actions: [T, N, ...].
        """
        self._next[:] = self._steps.observations[-1, :]
        with evaluating(policy):
            return self._finished(policy, None, (observations, actions), policy(observations), None)

    def _finished(
        self,
        policy: ActorCritic,
        native: Actor | None,
        taken: tuple[Tensor | StackedImages, Tensor],
        answers: tuple[Tensor, Tensor],
        memories: Memories | None,
    ) -> Rollout:
        """Return the rollout of the steps that `_steps` holds.

        Args:
            taken: scaled observations [T+1, N, W], and actions [T, N, ...].
            answers: the policy's distribution parameters [T+1, N, P] and values [T+1, N].
        """
        (observations, actions), (parameters, values) = taken, answers
        device = actions.device
        steps = self._steps
        parameters = parameters[:-1]
        if steps.masks is not None:
            parameters = masked_logits(parameters, torch.from_numpy(steps.masks[:-1]).to(device))
        ended = steps.terminated | steps.truncated
        game = (steps.game_rewards, steps.game_over) if self._env.tells_game else None
        over = ended if game is None else steps.game_over
        discounted, episodes = self._statistics.add(
            steps.rewards, ended, steps.valid, game, in_native=native is not None
        )
        rollout = Rollout(
            observations,
            actions,
            parameters,
            policy.distribution.log_prob(parameters, actions),
            values,
            torch.from_numpy(steps.rewards).to(device, torch.float32, copy=True),
            torch.from_numpy(steps.terminated).to(device, copy=True),
            torch.from_numpy(steps.truncated).to(device, copy=True),
            torch.from_numpy(steps.valid).to(device, copy=True),
            sample_moments(torch.from_numpy(self._vectors()[steps.valid])),
            sample_moments(torch.from_numpy(discounted[steps.valid])),
            self._with_info(episodes, over) if self._log_info else episodes,
            None if game is None else torch.from_numpy(over.copy()),
            memories=memories,
        )
        self._stagger_environments()
        return rollout

    def _run_remembering(
        self, policy: ActorCritic, native: Actor | None
    ) -> tuple[Tensor | StackedImages, Tensor, Tensor, Tensor, Memories]:
        """Do what `_run` does, with memory; return also distribution parameters and values of all rows."""
        valid = self._steps.valid
        before = policy.no_memories(self._env.num_envs)
        if self._memory is not None:
            before = self._memory.to(before)
        given = before, [rows for rows, _ in self._env.groups], valid, self._sequence_length
        loop = self._native_loop(native)
        acting: ActingWithMemory
        if native is None:
            acting = ActingWithMemory(policy, *given)
            observations, actions = self._run(policy, acting.act)
        else:
            acting = in_native = ActingWithMemoryInNative(policy, native, *given)
            if loop is None:
                observations, actions = self._run(policy, acting.act)
            else:
                observations, actions = self._run_in_native(loop, policy, in_native.for_loop())
        parameters, values, self._memory = acting.answers(last_rows(observations))
        starts = torch.zeros((len(valid) + 1, self._env.num_envs), dtype=torch.bool)
        starts[1:] = torch.from_numpy(~valid)
        return observations, actions, parameters, values, Memories(acting.kept, starts.to(actions.device))

    def _vectors(self) -> NDArray[np.float64]:
        """Return the vectors [T, N, D] that the actions answered."""
        rows = self._steps.observations
        if isinstance(rows, ChannelStore):
            return np.empty((*self._steps.valid.shape, 0))
        return self._env.layout.vector_of(rows[:-1])

    def _with_info(self, episodes: Sequence[Episode], over: NDArray[np.bool_]) -> list[Episode]:
        """Return the episodes, which are in the order of their ends, each with what `log_info` names."""
        rows = self._steps.info[over]
        named = [dict(zip(self._log_info, row.tolist(), strict=True)) for row in rows]
        return [
            replace(episode, info={name: value for name, value in info.items() if not math.isnan(value)})
            for episode, info in zip(episodes, named, strict=True)
        ]

    def _stagger_environments(self) -> None:
        """Once, spread over the first episode's length, so that environments are not all in the same phase for good.

        Else episodes of one length end in all of them together, and every rollout is of one phase only. The episodes
        that are cut short are forgotten; that a rollout ends there is what bootstraps their values.
        """
        duration, count = self._steps.rewards.shape
        before, self._taken = self._taken, self._taken + duration
        longest = self._env.longest_episode
        if not self._stagger or longest is None or duration >= longest or before >= longest:
            return
        indices = self._group.rank * count + np.arange(count)
        ends = indices * longest // (self._group.size * count)
        which = (before < ends) & (ends <= self._taken)
        if which.any():
            self._next[which] = self._env.reset_some(which)
            self._take_masks(which)
            self._statistics.forget(which)
            if self._memory is not None:
                self._memory[:, torch.from_numpy(which)] = 0.0

    def _take_masks(self, which: slice | NDArray[np.bool_]) -> None:
        """Take the masks of the observations that a reset has just given where `which`."""
        if self._next_masks is not None:
            masks = self._env.masks
            if masks is None:
                raise EnvError(f"{self._env.env_id}: gives no mask of actions any more; {FIX}")
            self._next_masks[which] = masks[which]

    def _run_plainly(self, policy: ActorCritic, native: Actor | None) -> tuple[Tensor | StackedImages, Tensor]:
        """Do what `_run` does, in C++ where that can be, with a policy that keeps nothing."""
        loop = self._native_loop(native)
        if loop is not None:
            return self._run_in_native(loop, policy)
        env = self._env.on_device
        if env is not None and native is None:
            return self._run_on_device(env, policy)
        return self._run(policy, partial(act, policy) if native is None else native.act)

    def _run_on_device(self, env: TensorEnv, policy: ActorCritic) -> tuple[Tensor, Tensor]:
        """Do what `_run` does."""
        turn = self.begin_on_device(policy)
        observations, actions = collected_on_device(env, turn, policy)
        self._next[:] = self._steps.observations[-1, :]
        return observations, actions

    def _run_in_native(
        self, loop: NativeLoop, policy: ActorCritic, memory: LoopMemory | None = None
    ) -> tuple[Tensor, Tensor]:
        """Do what `_run` does."""
        steps, scaling = self._steps, policy.scaling
        steps.observations[0, :] = self._next
        observations, actions = loop.run(
            steps, scaling, self._drawn_noise(policy), policy.distribution.action_shape, memory
        )
        self._next[:] = steps.observations[-1, :]
        observations[-1] = torch.from_numpy(scaling(self._next))
        return observations, actions

    def _native_loop(self, native: Actor | None) -> NativeLoop | None:
        """Return the loop in C++, or None; write once to the log of the first process if EnvPool is the reason."""
        try:
            self._loop = native_loop(self._loop, native, self._env)
        except NotCallableError as reason:
            if self._group.is_first and not self._told:
                log.info("%s: Python collects step by step, which is slower, since %s", self._env.env_id, reason)
            self._loop, self._told = None, True
        return self._loop

    def _drawn_noise(self, policy: ActorCritic) -> Tensor:
        """Return the noise [T, N, ...] of this process's actions."""
        num_envs = self._env.num_envs
        first = self._group.rank * num_envs
        noise = self._noise.draw(policy.distribution, self._group.size * num_envs)
        return noise[:, first : first + num_envs].contiguous()

    def _run(self, policy: ActorCritic, act: Callable[..., None]) -> tuple[Tensor | StackedImages, Tensor]:
        """Fill `_steps`; returns scaled observations [T+1, N, W] and actions [T, N, ...].

        The groups of environments take turns: while one is acted for, the others simulate.
        """
        steps, distribution = self._steps, policy.distribution
        scaling = policy.scaling
        duration, num_envs = steps.rewards.shape
        noise = self._drawn_noise(policy)
        observations = self._memory_of_scaled(noise.device)
        actions = torch.empty(
            (duration, num_envs, *distribution.action_shape), dtype=distribution.action_dtype, device=noise.device
        )
        steps.observations[0, :] = self._next
        masks = None if steps.masks is None else torch.from_numpy(steps.masks)
        if steps.masks is not None:
            steps.masks[0] = self._next_masks
        turns = [  # cut up beforehand: one slice of a tensor takes a third as long as the policy's answer
            (
                rows, env_group, noise[:, rows].unbind(),
                [None] * duration if observations is None else observations[:-1, rows].unbind(),
                actions[:, rows].unbind(),
                () if masks is None else masks[:-1, rows].unbind(),
            )
            for rows, env_group in self._env.groups
        ]  # fmt: skip
        for t in range(duration + 1):
            for rows, env_group, drawn, seen, chosen, allowed in turns:
                if t > 0:
                    steps.put(t - 1, rows, env_group.receive(), env_group.masks)
                if t < duration:
                    act(steps.observations[t, rows], scaling, drawn[t], seen[t], chosen[t], *allowed[t : t + 1])
                    env_group.send(chosen[t].cpu().numpy())
        self._next[:] = steps.observations[duration, :]
        if steps.masks is not None:
            self._next_masks = steps.masks[-1].copy()
        if observations is None:
            return _as_images(steps.observations), actions
        observations[-1] = torch.from_numpy(scaling(self._next))
        return observations, actions

    def _memory_of_scaled(self, device: torch.device) -> Tensor | None:
        """Return memory [T+1, N, W] for scaled observations; None where the raw ones are the same images."""
        layout, rows = self._env.layout, self._steps.valid.shape
        if layout.images and not layout.vector_size and device.type == "cpu":
            return None
        dtype = torch.uint8 if layout.images else torch.float32
        return torch.empty((rows[0] + 1, rows[1], layout.scaled_width), dtype=dtype, device=device)


def _memory_of_raw(duration: int, env: VectorEnv, device: torch.device) -> NDArray[Any] | ChannelStore:
    """Return memory for rows [T, N, W] as the environments give them."""
    if can_store(env.layout) and device.type == "cpu":
        return ChannelStore(duration, env.num_envs, env.layout)
    return np.empty((duration, env.num_envs, env.layout.raw_width), dtype=env.layout.raw_dtype)


def _as_images(rows: NDArray[Any] | ChannelStore) -> Tensor | StackedImages:
    """Return raw rows [T, N, W] for the policy, in memory that the next rollout fills anew."""
    return rows.images() if isinstance(rows, ChannelStore) else torch.from_numpy(rows)
