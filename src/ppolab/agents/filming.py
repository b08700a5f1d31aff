"""Film an episode: play it, and write a picture of every step, or of every few."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppolab.agents.evaluation import Act, play_episodes
from ppolab.config.schema import EnvConfig
from ppolab.envs.envpool_backend import EnvPoolEnv
from ppolab.envs.factory import evaluation_backend, make_vector_env
from ppolab.envs.gymnasium_backend import GymnasiumEnv

VIDEO_FPS = 30.0
"""Environments that say more frames a second are filmed with about so many, at their own speed."""
MAX_VIDEO_SECONDS = 60


@dataclass(frozen=True)
class Player:
    """What plays: `act` as in `play_episodes`, and `forget`, which is told where an episode begins."""

    act: Act
    forget: Callable[[NDArray[np.bool_]], None] | None = None


def film(player: Player, env: EnvConfig, seed: int, path: Path, stride: int | None = None) -> float:
    """Play one episode as an evaluation does, film it to `path` (.mp4), and return its return.

    The last picture is of what the last step led to.

    Args:
        env: as `for_evaluation` returns it.
        stride: every so many steps there is a picture; None: as many as `VIDEO_FPS` takes.
    """
    import imageio.v2 as imageio

    drawn = replace(env, kwargs={**env.kwargs, "render_mode": "rgb_array"}, vectorization="sync", log_info=[])
    steps = itertools.count()
    with closing(make_vector_env(drawn, [seed], evaluation_backend(drawn))) as simulator:
        ((_, shown),) = simulator.groups
        assert isinstance(shown, EnvPoolEnv | GymnasiumEnv), shown
        told = shown.pictures_per_second or VIDEO_FPS
        every = stride or max(1, round(told / VIDEO_FPS))
        fps = told if stride else told / every
        last = MAX_VIDEO_SECONDS * fps * every
        with closing(imageio.get_writer(path, fps=fps, macro_block_size=2)) as writer:

            def watched(rows: NDArray[Any], masks: NDArray[np.bool_] | None) -> NDArray[Any]:
                step = next(steps)
                if step % every == 0 and step < last:
                    writer.append_data(shown.picture())
                return player.act(rows, masks)

            (total,) = play_episodes(watched, simulator, player.forget).returns
            writer.append_data(shown.picture())
    return total
