"""Films of one episode, written and read by ffmpeg."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
from gymnasium import spaces
from helpers import make_env, make_policy, tiny_config
from made_agents import trained_on
from numpy.typing import NDArray

from ppolab.agents import filming_apart
from ppolab.agents.agent import Agent
from ppolab.agents.evaluation import EvalResult
from ppolab.agents.filming import Player
from ppolab.agents.filming_apart import film_apart
from ppolab.agents.video import RenderError, record_video
from ppolab.config.schema import EnvConfig
from ppolab.envs import envpool_ids

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the reader's pipes


class Film(gymnasium.Env[Any, Any]):
    """An episode of 12 steps of reward 1; picture t is white in its first 4 t of 48 columns."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(self, fps: float = 0.5, grow: bool = False, render_mode: str | None = None) -> None:
        self.metadata = {**type(self).metadata, "render_fps": fps}
        self.render_mode = render_mode
        self.grow = grow

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t >= 12, False, {}

    def render(self) -> Any:
        picture = np.zeros((32 + 2 * self.t * self.grow, 48, 3), np.uint8)
        picture[:, : 4 * self.t] = 255
        return picture


gymnasium.register("probe/Film-v0", entry_point=Film)


def filmed(path: Path, **kwargs: Any) -> tuple[list[float], float]:
    """The white share of each frame, and the frames per second."""
    config = tiny_config("probe/Film-v0", env_kwargs=kwargs)
    env = make_env(config)
    policy = make_policy(config, env)
    assert record_video(policy, config.env, 0, path) == 12.0
    assert policy.training, "as before"
    with closing(imageio.get_reader(path)) as reader:
        return [float((frame > 128).mean()) for frame in reader], float(reader.get_meta_data()["fps"])


def test_every_step_is_shown_and_what_the_last_one_led_to(tmp_path: Path) -> None:
    shares, fps = filmed(tmp_path / "video.mp4", fps=0.5)
    assert fps == 0.5
    assert len(shares) == 13
    assert shares == pytest.approx([step / 12 for step in range(13)], abs=0.03)


def test_fast_environments_are_shown_at_their_own_speed_in_fewer_frames(tmp_path: Path) -> None:
    shares, fps = filmed(tmp_path / "video.mp4", fps=120)
    assert fps == 30.0
    assert shares == pytest.approx([0, 4 / 12, 8 / 12, 1], abs=0.03)


def test_where_there_is_no_video_no_file_is_left(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="no video: ValueError: All images in a movie should have same size"):
        filmed(tmp_path / "video.mp4", grow=True)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_video_stays_where_there_is_no_new_one(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_text("earlier")
    with pytest.raises(RenderError):
        filmed(tmp_path / "video.mp4", grow=True)
    assert (tmp_path / "video.mp4").read_text() == "earlier"


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("compiled", ["false", "auto"])
def test_the_film_is_of_the_episode_that_is_evaluated(compiled: str, deterministic: bool, tmp_path: Path) -> None:
    config = tiny_config("CartPole-v1", **{"env.frame_stack": 3, "compile": compiled, "seed": 4})
    env = make_env(config)
    agent = Agent(trained_on(env.observation_space, env.action_space, config))
    played = [agent.evaluate(1, seed, deterministic).returns[0] for seed in range(4)]
    filmed = [
        record_video(
            agent.trained.policy, config.env, seed, tmp_path / "video.mp4", native=agent.native,
            deterministic=deterministic,
        )
        for seed in range(4)
    ]  # fmt: skip
    assert filmed == played
    assert len(set(played)) > 1


needs_envpool = pytest.mark.skipif(not envpool_ids.is_installed(), reason="EnvPool has no build for this platform")


def pool_film(path: Path, env_id: str, backend: str, kwargs: dict[str, Any]) -> tuple[EvalResult, list[NDArray[Any]]]:
    """Film what an evaluation plays; return the evaluation and the pictures."""
    config = tiny_config(env_id, env_kwargs=kwargs, **{"env.backend": backend, "model.encoder": None})
    env = make_env(config)
    agent = Agent(trained_on(env.observation_space, env.action_space, config))
    env.close()
    result = agent.evaluate(1, 3, deterministic=False)
    film = record_video(agent.trained.policy, config.env, 3, path, native=agent.native, deterministic=False)
    assert [film] == result.returns
    with closing(imageio.get_reader(path)) as reader:
        return result, [np.asarray(frame) for frame in reader]  # list() would ask for the length, which is infinite


@needs_envpool
@pytest.mark.parametrize("backend", ["auto", "gymnasium"])
@pytest.mark.parametrize(
    ("env_id", "kwargs", "size"),
    [
        ("MiniGrid-Empty-5x5-v0", {}, (160, 160)),
        ("Breakout-v5", {"episodic_life": True, "reward_clip": True}, (210, 160)),  # whole games and the game's score
    ],
)
def test_what_envpool_alone_has_is_drawn_by_envpool(
    env_id: str, kwargs: dict[str, Any], size: tuple[int, int], backend: str, tmp_path: Path
) -> None:
    result, frames = pool_film(tmp_path / "video.mp4", env_id, backend, kwargs)
    assert frames[0].shape == (*size, 3)
    assert len(frames) == 901 if result.lengths[0] >= 900 else 900 >= len(frames) > result.lengths[0]
    assert any((frame != frames[0]).any() for frame in frames)


@needs_envpool
@pytest.mark.parametrize("env_id", ["CheetahRun-v1", "Hopper-v3"])
def test_mujoco_inside_envpool_draws_in_a_process_of_its_own(env_id: str, tmp_path: Path) -> None:
    result, frames = pool_film(tmp_path / "video.mp4", env_id, "auto", {"max_episode_steps": 12})
    assert len(frames) == result.lengths[0] + 1
    assert frames[0].shape == (480, 480, 3)
    assert frames[0].std() > 10, "there is something to see"
    assert (frames[-1] != frames[0]).any()


@needs_envpool
def test_a_process_that_cannot_draw_is_told_of_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MuJoCo finds no OpenGL, it ends the process."""
    program = "import sys; print('ERROR: gladLoadGL error\\n'); sys.exit(1)"
    run = subprocess.run
    monkeypatch.setattr(
        filming_apart.subprocess, "run", lambda _, **others: run([sys.executable, "-c", program], **others)
    )
    with pytest.raises(RenderError, match=r"^no video: ERROR: gladLoadGL error \(exit code 1\)$"):
        pool_film(tmp_path / "video.mp4", "CheetahRun-v1", "auto", {"max_episode_steps": 5})
    assert list(tmp_path.iterdir()) == []


@needs_envpool
def test_a_long_episode_is_drawn_in_few_pictures(tmp_path: Path) -> None:
    env = EnvConfig(id="MiniGrid-Empty-5x5-v0", backend="envpool", kwargs={"max_episode_steps": 400})
    path = tmp_path / "video.mp4"
    assert film_apart(Player(lambda rows, masks: np.zeros((len(rows), 1), dtype=np.int64)), env, 0, path) == 0.0
    with closing(imageio.get_reader(path)) as reader:
        frames = [np.asarray(frame) for frame in reader]
    assert len(frames) == 134 + 1, "every third, and the last"
