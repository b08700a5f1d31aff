"""Use a trained policy: observations go in as the environment gives them, actions come out as it takes them."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppolab.agents.evaluation import EvalResult, play_episodes
from ppolab.agents.export_formats import FILE_FORMATS
from ppolab.agents.observations import MaskReader, ObservationReader
from ppolab.agents.policy_actor import PolicyActor
from ppolab.agents.trained_policy import TrainedPolicy
from ppolab.config.schema import Config
from ppolab.envs.factory import (
    EVALUATION,
    action_mapping,
    environment_seeds,
    evaluation_backend,
    for_evaluation,
    make_vector_env,
)
from ppolab.envs.making import make_env
from ppolab.envs.rendering import prepare_headless_rendering, prepare_scene
from ppolab.envs.seeding import private_generators
from ppolab.envs.spaces import action_decoder, first_action
from ppolab.errors import ConfigError
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.native import NativePolicy, native_policy

if TYPE_CHECKING:
    from ppolab.agents.export import ExportResult

FRAMES = "_list"
"""Ends the render modes that Gymnasium makes of others: all frames since the last call."""


class Agent:
    """Hold a trained policy with its normaliser, its action mapping and its mask of actions.

    An agent computes what the policy was when it was loaded. Several threads may use one agent, unless its policy has
    memory: what that holds is of one stream of observations. Pickled, as for another process, it goes on as it would
    have here.

    Attributes:
        trained: the policy by itself, and where it comes from.

    Args:
        seed: of the actions that `act(deterministic=False)` draws.
    """

    def __init__(self, trained: TrainedPolicy, seed: int = 0) -> None:
        self.trained = trained
        self._native = _in_native_code(trained)
        self._actor = PolicyActor(trained.policy, self._native)
        self._read = ObservationReader(trained.seen_space)
        self._mask = MaskReader(trained.observation_space, trained.policy_space, masked=trained.policy.masked)
        self._decode = action_decoder(trained.policy_space, action_mapping(trained.config.env))
        self._generator = torch.Generator().manual_seed(seed)
        self._lock = threading.Lock()  # native code has buffers, and sampling a generator

    def __reduce__(self) -> tuple[Callable[..., Agent], tuple[TrainedPolicy, Tensor, Tensor | None]]:
        with self._lock:
            return _unpickled, (self.trained, self._generator.get_state(), self._actor.state)

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.trained.config

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """The space of one observation."""
        return self.trained.observation_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """The space of one action."""
        return self.trained.action_space

    @property
    def steps(self) -> int:
        """Environment steps that the policy was trained for."""
        return self.trained.steps

    @property
    def native(self) -> NativePolicy | None:
        """The policy in C++, which this agent's actions are computed by; None where PyTorch computes them."""
        return self._native

    @property
    def run_id(self) -> str | None:
        """The MLflow run id; None for a run without one."""
        return self.trained.run.folder.run_id()

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.trained.run.folder.path

    def __repr__(self) -> str:
        path = "C++" if self._native else "PyTorch"
        return f"<Agent {self.config.env.id}, {self.steps:,} steps, {self.trained.run.checkpoint}, computed in {path}>"

    @property
    def state(self) -> NDArray[np.float32] | None:
        """What memory holds after the last action, [N, K, H] for N observations; None before the first, or without."""
        state = self._actor.state
        return None if state is None else state.transpose(0, 1).numpy().copy()

    def reset(self, which: Any = None) -> None:
        """Begin a new episode: forget what memory holds. Without memory nothing happens.

        Args:
            which: [N] bool, of a batch of observations: where episodes begin. None: everywhere.

        Raises:
            ConfigError: `which` is not of the batch that the memory is of.
        """
        held = self._actor.state
        if which is None or held is None:
            self._actor.forget()
            return
        chosen = np.asarray(which)
        if chosen.dtype != np.bool_ or chosen.shape != held.shape[1:2]:
            raise ConfigError(
                f"which: is of shape {chosen.shape} and type {chosen.dtype}; give {held.shape[1]} values of True or "
                "False, one for each observation"
            )
        self._actor.forget(chosen)

    def act(self, observation: Any, deterministic: bool = True, state: Any = None, action_mask: Any = None) -> Any:
        """Return the action for one observation, or a batch of actions for a batch of observations.

        An observation with one dimension more than the space's is a batch of N. Of a Dict or Tuple space, every part
        has that dimension. A batch of actions is what a vector environment takes: an array [N, ...], of a
        Dict or Tuple space a dict or tuple of arrays.

        A policy with memory goes on from what it holds: call `reset` where an episode begins.

        Args:
            deterministic: the most probable action; False draws one with the agent's own generator.
            state: [N, K, H] what memory holds before these observations, in place of what it holds; an earlier `state`.
            action_mask: not 0 for the actions that are allowed, [A] or [N, A], for a policy that was trained with such
                masks; A counts the values of all components of an action, or all combinations of them. Leave it out
                where the observation has an entry of this name, which is then taken.

        Raises:
            ConfigError: the observation does not have the shape or the type of the space, or holds NaN; the message is
                one line. Also for a state, and for a mask that is missing, of another size or without an action.
            EnvError: a discrete observation lies outside its space.
        """
        if state is not None and not self.trained.policy.has_memory:
            raise ConfigError("state: this policy has no memory; leave state out")
        rows, alone = self._read(observation)
        masks = self._mask(observation, action_mask, len(rows))
        with self._lock:
            if self.trained.policy.has_memory:
                self._remember(state, len(rows))
            chosen = self._actor(rows, None if deterministic else self._generator, masks)
        actions = self._decode(chosen)
        return first_action(actions, self.action_space) if alone else actions

    def _remember(self, state: Any, count: int) -> None:
        """Take a state given by the caller, and see that memory is of as many observations as are given."""
        if state is not None:
            wanted = tuple(self.trained.policy.no_memories(count, actor_alone=True).transpose(0, 1).shape)
            try:
                given = torch.as_tensor(np.array(state, dtype=np.float32))
            except (TypeError, ValueError):
                raise ConfigError(
                    f"state: is no array of numbers; give an earlier `state`, of shape {wanted}"
                ) from None
            if tuple(given.shape) != wanted:
                raise ConfigError(f"state: has shape {tuple(given.shape)}; for {count} observations it has {wanted}")
            if not given.isfinite().all():
                raise ConfigError("state: holds a number that is not finite; give an earlier `state`")
            self._actor.state = given.transpose(0, 1)
        held = self._actor.state
        if held is not None and held.shape[1] != count:
            raise ConfigError(
                f"observation: is of {count}, and the memory of {held.shape[1]}; call reset() where episodes begin"
            )

    def evaluate(self, episodes: int = 20, seed: int = 0, deterministic: bool = True) -> EvalResult:
        """Play episodes in Gymnasium's own environment, all at the same time.

        The same arguments give the same episodes, and the global random generators are as before afterwards.

        Args:
            seed: of the environments, and of the actions that are drawn.
            deterministic: take the most probable actions; False draws them.

        Raises:
            ConfigError: episodes or seed is no number that can be meant.
            EnvError: an environment raised.
        """
        for key, value, lowest in (("episodes", episodes, 1), ("seed", seed, 0)):
            if not isinstance(value, int) or value < lowest:
                raise ConfigError(f"{key}={value}: must be a whole number >= {lowest}")
        generator = None if deterministic else torch.Generator().manual_seed(seed)

        actor = PolicyActor(self.trained.policy, self._native)  # with a memory of its own

        def act(observations: NDArray[Any], masks: NDArray[np.bool_] | None) -> NDArray[Any]:
            with self._lock:
                return actor(observations, generator, masks)

        seeds = environment_seeds(seed, 0, episodes, EVALUATION)
        played = for_evaluation(self.trained.env)
        with private_generators(seeds[0]), closing(make_vector_env(played, seeds, evaluation_backend(played))) as env:
            return play_episodes(act, env, actor.forget)

    def make_env(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Return the run's environment, made by Gymnasium.

        Args:
            render_mode: such as "human" or "rgb_array". Where there is no display, environment variables then tell
                MuJoCo and SDL to render without one.

        Raises:
            ConfigError: the environment has no such render mode.
        """
        env = self.config.env
        if render_mode is None:
            return make_env(env)
        known = self._render_modes()
        if render_mode not in known:
            listed = ", ".join(known) or "none"
            raise ConfigError(f"render_mode={render_mode}: {env.id} has no such mode; it has {listed}")
        prepare_headless_rendering()
        made = make_env(env, render_mode=render_mode)
        prepare_scene(made)
        return made

    def export(self, path: str | Path, format: str = "onnx") -> ExportResult:
        """Write the policy as one file that plays without ppolab, and compare it with this agent first.

        Args:
            path: of the file, such as policy.onnx. It is replaced if it is there.
            format: `onnx` or `torch_export`.

        Raises:
            ConfigError: a package is missing, or there is no such format.
            ExportError: the format cannot hold the policy, the file acts otherwise, or it cannot be written.
        """
        if format not in FILE_FORMATS:
            raise ConfigError(f"format={format}: must be one of {', '.join(FILE_FORMATS)}")
        from ppolab.agents.export import export_policy  # loads PyTorch's compiler

        return export_policy(self.trained, format, Path(path))

    def _render_modes(self) -> list[str]:
        with closing(self.make_env()) as env:
            modes = [mode for mode in env.metadata.get("render_modes", []) if mode is not None]
        return [*modes, *(mode + FRAMES for mode in modes if mode != "human" and not mode.endswith(FRAMES))]


def _in_native_code(trained: TrainedPolicy) -> NativePolicy | None:
    """Return the policy in C++; None where it cannot be, or the run was told not to compile."""
    if trained.config.compile.lower() == "false":
        return None
    policy: ActorCritic = copy.deepcopy(trained.policy)  # its parameters move into one vector
    return native_policy(policy, flatten_parameters(policy))


def _unpickled(trained: TrainedPolicy, generator: Tensor, memory: Tensor | None) -> Agent:
    """Return an agent whose next actions are those of the one that was pickled."""
    agent = Agent(trained)
    agent._generator.set_state(generator)
    agent._actor.state = memory
    return agent
