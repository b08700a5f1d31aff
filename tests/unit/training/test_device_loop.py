"""What is scaled and placed on a device is what NumPy scales and places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppolab.core.moments import sample_moments
from ppolab.core.observation_rows import RowLayout
from ppolab.envs.spaces import ActionMapping, action_decoder
from ppolab.envs.warp.placement import placed_on
from ppolab.learning.normalization import RunningScale
from ppolab.training.device_loop import DeviceScaling

CPU = torch.device("cpu")
BOX = spaces.Box(np.array([-1, -0.4, 0], np.float32), np.array([1, 0.4, np.inf], np.float32))


@pytest.mark.parametrize("enabled", [False, True])
def test_rows_are_scaled_alike(enabled: bool) -> None:
    rng = np.random.default_rng(0)
    scale = RunningScale((4,), enabled=enabled)
    scale.merge(sample_moments(torch.from_numpy(rng.normal(3.0, 5.0, (100, 4)))))
    frozen = scale.frozen(RowLayout(4))
    rows = rng.normal(0.0, 90.0, (50, 4))
    assert np.array_equal(DeviceScaling([frozen], CPU)(torch.from_numpy(rows)[None]).numpy()[0], frozen(rows))
    assert (np.abs(frozen(rows)) == 10).any() == enabled


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("squash", [False, True])
def test_actions_are_placed_alike(rescale: bool, squash: bool) -> None:
    mapping = ActionMapping(rescale, squash)
    actions = np.random.default_rng(0).normal(0.0, 2.0, (50, 3)).astype(np.float32)
    expected = action_decoder(BOX, mapping)(actions)
    placed = placed_on(BOX, mapping, CPU)(torch.from_numpy(actions))
    assert placed.dtype == torch.float32
    np.testing.assert_allclose(placed.numpy(), expected, rtol=1e-6 * squash, atol=1e-6 * squash)
