"""Deterministic episodes of a policy: their returns, and a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from ppolab.checkpoint import Checkpoint
from ppolab.config import Config, EnvConfig
from ppolab.envs import VectorEnv, action_mapping
from ppolab.envs.spaces import action_decoder, observation_encoder
from ppolab.errors import CheckpointError, PpolabError
from ppolab.policy import ActorCritic, action_distribution
from ppolab.rendering import prepare_scene
from ppolab.rollout import Actor, EpisodeStatistics

VIDEO_FPS = 30
MAX_VIDEO_SECONDS = 60
MAX_EPISODE_STEPS = 20_000
"""An episode in an environment without a time limit may never end; after so many steps, what it has counts."""


class RenderError(PpolabError):
    """This machine or this environment cannot make pictures."""


@dataclass(frozen=True)
class EvalResult:
    """Undiscounted, unscaled returns and lengths of whole episodes."""

    returns: list[float]
    lengths: list[int]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes (population)."""
        return float(np.std(self.returns))

    @property
    def metrics(self) -> dict[str, float]:
        """As logged."""
        return {
            "eval/return": self.mean,
            "eval/return_std": self.std,
            "eval/length": float(np.mean(self.lengths)),
        }


class DeterministicPolicy:
    """A policy's most probable actions, with its normaliser as it stands; evaluation never changes either."""

    def __init__(self, policy: ActorCritic, native: Actor | None = None) -> None:
        policy.eval()
        self._distribution = policy.distribution
        self._actor = native or policy
        self._scaling = policy.observation_scale.frozen()
        self._device = policy.value_head.weight.device

    @torch.no_grad()
    def __call__(self, observations: NDArray[np.float64]) -> NDArray[Any]:
        """[N, D] raw observations -> [N, ...] policy actions."""
        inputs = torch.from_numpy(self._scaling(observations)).to(self._device)
        return self._distribution.mode(self._actor.action_parameters(inputs)).cpu().numpy()


def evaluate_policy(policy: ActorCritic, env: VectorEnv, native: Actor | None = None) -> EvalResult:
    """One episode in each environment of `env`, so that short episodes are not counted more often than long ones.

    `native` computes `policy` faster.
    """
    act = DeterministicPolicy(policy, native)
    statistics = EpisodeStatistics(env.num_envs, gamma=1.0)
    returns, lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
    waiting = np.ones(env.num_envs, dtype=np.bool_)
    observations = env.reset()
    for _ in range(MAX_EPISODE_STEPS):
        step = env.step(act(observations))
        observations = step.observations
        ended = step.terminated | step.truncated
        _, finished = statistics.add(step.rewards[None], ended[None], step.valid[None])
        for index, episode in zip(np.flatnonzero(ended), finished, strict=True):
            if waiting[index]:
                returns[index], lengths[index] = episode.total_reward, episode.length
        waiting &= ~ended
        if not waiting.any():
            break
    unfinished = statistics.unfinished()
    for index in np.flatnonzero(waiting):
        returns[index], lengths[index] = unfinished[index].total_reward, unfinished[index].length
    return EvalResult(returns.tolist(), lengths.tolist())


def record_video(policy: ActorCritic, env: EnvConfig, seed: int, path: Path) -> float:
    """Film one deterministic episode in Gymnasium's environment to `path` (.mp4); returns the episode's return.

    Raises:
        RenderError: there is no way to render here; the message names the cause.
    """
    import imageio.v2 as imageio

    act = DeterministicPolicy(policy)
    try:
        simulator = gymnasium.make(env.id, render_mode="rgb_array", disable_env_checker=True, **env.kwargs)
        prepare_scene(simulator)
        native_fps = int(simulator.metadata.get("render_fps") or VIDEO_FPS)
        stride = max(1, round(native_fps / VIDEO_FPS))
        with simulator, imageio.get_writer(path, fps=native_fps / stride, macro_block_size=2) as writer:
            total = _film(simulator, act, env, seed, stride, writer)
    except Exception as error:  # OpenGL, pygame, ffmpeg and user environments each fail in ways of their own
        path.unlink(missing_ok=True)
        told = str(error).splitlines()[0] if str(error) else ""
        raise RenderError(f"no video: {type(error).__name__}: {told}") from error
    return total


def _film(
    simulator: gymnasium.Env[Any, Any], act: DeterministicPolicy, env: EnvConfig, seed: int, stride: int, writer: Any
) -> float:
    _, encode = observation_encoder(simulator.observation_space)
    decode = action_decoder(simulator.action_space, action_mapping(env))
    observation, _ = simulator.reset(seed=seed)
    total, ended, step = 0.0, False, 0
    while not ended and step < MAX_EPISODE_STEPS:
        if step % stride == 0 and step < MAX_VIDEO_SECONDS * VIDEO_FPS * stride:
            writer.append_data(np.asarray(simulator.render()))
        batch = gymnasium.vector.utils.batch_space(simulator.observation_space, 1)
        action = decode(act(encode(_batched(observation, batch))))[0]
        observation, reward, terminated, truncated, _ = simulator.step(action)
        total += float(reward)
        ended = terminated or truncated
        step += 1
    return total


def _batched(observation: Any, batch_space: gymnasium.Space[Any]) -> Any:
    """A batch of one, for spaces of any nesting."""
    if isinstance(batch_space, gymnasium.spaces.Dict):
        return {key: _batched(observation[key], space) for key, space in batch_space.spaces.items()}
    if isinstance(batch_space, gymnasium.spaces.Tuple):
        return tuple(_batched(part, space) for part, space in zip(observation, batch_space.spaces, strict=True))
    return np.asarray(observation)[None]


def policy_from(checkpoint: Checkpoint, config: Config, env: VectorEnv) -> ActorCritic:
    """The trained policy with its normaliser.

    Raises:
        CheckpointError: the checkpoint is of another network or another task.
    """
    policy = ActorCritic(
        env.observation_size,
        action_distribution(env.action_space),
        config.model,
        normalize=config.normalize_observations,
    )
    try:
        policy.load_state_dict(checkpoint.module["policy"])
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"the checkpoint does not fit {config.env.id} and its model settings: {error}") from error
    return policy
