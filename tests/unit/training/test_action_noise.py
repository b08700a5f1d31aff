"""The noise of actions: white as before, coloured along time, and going on through checkpoints and ranks."""

from __future__ import annotations

from pathlib import Path

import probe_envs  # noqa: F401
import pytest
import torch
from modules import whole_and_resumed
from small_runs import run_small, small_config

from ppolab.core.distributions import DiagonalGaussian, Joint, MultiCategorical
from ppolab.errors import ConfigError
from ppolab.training.action_noise import REMEMBERED, ActionNoise

GAUSSIAN = DiagonalGaussian(2)
BOTH = Joint((MultiCategorical((3,)), DiagonalGaussian(2)))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def test_color_0_is_the_noise_of_the_distribution_bit_for_bit() -> None:
    source = generator()
    noise = ActionNoise(generator(), 0.0, 5)
    for _ in range(3):
        assert noise.draw(GAUSSIAN, 4).equal(GAUSSIAN.noise((5, 4), source))
    assert noise.state() is None


def test_rollouts_go_on_in_one_sequence() -> None:
    short, long = ActionNoise(generator(), 1.0, 8), ActionNoise(generator(), 1.0, 256)
    alike = torch.cat([short.draw(GAUSSIAN, 3) for _ in range(32)])
    assert alike.shape == long.draw(GAUSSIAN, 3).shape == (256, 3, 2)
    correlation = (alike[7::8][:-1] * alike[8::8]).mean()  # over the ends of rollouts
    assert float(correlation) > 0.4


def test_sequences_end_with_a_rollout_and_new_ones_follow() -> None:
    noise = ActionNoise(generator(), 1.0, 300)
    drawn = [noise.draw(GAUSSIAN, 1) for _ in range(5)]
    state = noise.state()
    assert state is not None
    assert state["taken"] == 300  # of the second 1,200
    assert REMEMBERED == 1024
    assert not drawn[4].equal(drawn[0])


def test_it_goes_on_bit_for_bit() -> None:
    source = generator()
    noise = ActionNoise(source, 0.5, 64)
    for _ in range(3):
        noise.draw(BOTH, 4)
    state, at = noise.state(), source.get_state()
    following = [noise.draw(BOTH, 4) for _ in range(20)]  # into the next sequences
    restored = torch.Generator()
    restored.set_state(at)
    again = ActionNoise(restored, 0.5, 64)
    again.restore(state)
    assert all(again.draw(BOTH, 4).equal(each) for each in following)


def test_choices_keep_their_independent_noise() -> None:
    colored, white = ActionNoise(generator(), 1.0, 16), ActionNoise(generator(), 0.0, 16)
    one, other = colored.draw(BOTH, 4), white.draw(BOTH, 4)
    assert one[..., :3].equal(other[..., :3])
    assert not one[..., 3:].equal(other[..., 3:])


@pytest.mark.parametrize("settings", [{}, {"env.id": "probe/Orders-v0"}, {"env.backend": "envpool"}])
def test_a_run_goes_on_bit_for_bit(settings: dict[str, object]) -> None:
    whole, resumed = whole_and_resumed(small_config(**{"exploration.noise_color": 0.5}, **settings))
    assert whole.equal(resumed)


def test_an_environment_without_continuous_actions_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is of continuous actions, and CartPole-v1 has none"):
        run_small(tmp_path, **{"env.id": "CartPole-v1", "exploration.noise_color": 0.5})
    assert not (tmp_path / "config.yaml").exists()
