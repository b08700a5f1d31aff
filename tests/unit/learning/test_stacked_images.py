"""Stacks of frames that are stored with each frame once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_collector, make_env, make_policy, tiny_config
from numpy.typing import NDArray

from ppolab.core.observation_rows import ImagePart, RowLayout
from ppolab.envs import envpool_ids
from ppolab.learning.encoders import in_parts
from ppolab.learning.stacked_images import ChannelStore, can_store, last_rows
from ppolab.training import collector

STACK = RowLayout(0, (ImagePart("", (3, 2, 4), channels_last=False),))


def stacks(frames: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Rows [T, N, depth * B] of frames [T + depth - 1, N, B], the oldest frame first."""
    times = range(len(frames) - depth + 1)
    return np.stack([np.concatenate(frames[t : t + depth], axis=1) for t in times])


def filled(rows: NDArray[np.uint8], groups: int = 1) -> ChannelStore:
    store = ChannelStore(len(rows), rows.shape[1], STACK)
    size = rows.shape[1] // groups
    for t, row in enumerate(rows):
        for first in range(0, rows.shape[1], size):
            store[t, first : first + size] = row[first : first + size]
    return store


@pytest.mark.parametrize("groups", [1, 2])
def test_every_frame_is_stored_once_and_every_row_comes_back(groups: int) -> None:
    frames = np.random.default_rng(0).integers(256, size=(7, 4, 8), dtype=np.uint8)
    rows = stacks(frames, 3)
    store = filled(rows, groups)
    images = store.images()
    assert int(images.places.max()) + 1 == 7 * 4
    assert images.shape == (5, 4, 24)
    assert images.index_select(0, torch.tensor([19, 0])).equal(torch.from_numpy(rows.reshape(20, 24)[[19, 0]]))
    assert images[:-1].shape == (4, 4, 24)
    assert last_rows(images).equal(torch.from_numpy(rows[-1]))
    assert (store[2, 1:3] == rows[2, 1:3]).all()


def test_a_stack_that_begins_anew_is_stored_anew() -> None:
    frames = np.random.default_rng(0).integers(256, size=(7, 2, 8), dtype=np.uint8)
    rows = stacks(frames, 3)
    rows[2, 1] = 7  # an episode's first stack
    rows[3, 1] = np.concatenate([rows[2, 1, :16], rows[3, 1, 16:]])
    rows[4, 1] = np.concatenate([rows[3, 1, 8:], rows[4, 1, 16:]])
    images = filled(rows).images()
    assert images.index_select(0, torch.arange(10)).equal(torch.from_numpy(rows.reshape(10, 24)))
    assert int(images.places.max()) + 1 == 7 + (4 + 3 + 1 + 1)


def test_frames_that_differ_in_one_byte_are_two() -> None:
    frames = np.zeros((4, 1, 8), dtype=np.uint8)
    rows = stacks(frames, 3)
    rows[1, 0, 5] = 1
    images = filled(rows).images()
    assert images.index_select(0, torch.arange(2)).equal(torch.from_numpy(rows.reshape(2, 24)))


def test_the_next_rollout_uses_the_same_memory() -> None:
    frames = np.random.default_rng(0).integers(256, size=(14, 2, 8), dtype=np.uint8)
    store = filled(stacks(frames[:7], 3))
    later = stacks(frames[7:], 3)
    for t, row in enumerate(later):
        store[t, :] = row
    images = store.images()
    assert int(images.places.max()) + 1 == 7 * 2
    assert images.index_select(0, torch.arange(10)).equal(torch.from_numpy(later.reshape(10, 24)))


def test_rows_are_answered_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppolab.learning.encoders.ROWS_AT_ONCE", 4)
    rows = stacks(np.random.default_rng(0).integers(256, size=(7, 2, 8), dtype=np.uint8), 3)
    sizes: list[int] = []

    def answer(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        return part.float().sum(-1)

    assert in_parts(answer, filled(rows).images()).equal(torch.from_numpy(rows).float().sum(-1))
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize(
    ("layout", "answer"),
    [
        (STACK, True),
        (RowLayout(0, (ImagePart("", (2, 4, 3), channels_last=True),)), False),  # a frame's bytes are not side by side
        (RowLayout(0, (ImagePart("", (1, 2, 4), channels_last=False),)), False),
        (RowLayout(2, STACK.images), False),
        (RowLayout(0, STACK.images * 2), False),
        (RowLayout(2), False),
    ],
)
def test_what_is_stored_this_way(layout: RowLayout, answer: bool) -> None:
    assert can_store(layout) is answer


@pytest.mark.skipif(not envpool_ids.is_installed(), reason="needs EnvPool")
def test_a_rollout_is_the_same_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config("Pong-v5", **{"num_envs": 2, "rollout_steps": 6, "minibatch_size": 4, "env.num_threads": 1})
    rollouts = []
    for stored in (True, False):
        monkeypatch.setattr(collector, "can_store", lambda _, stored=stored: stored)
        torch.manual_seed(0)
        env = make_env(config)
        rollouts.append(make_collector(config, env).collect(make_policy(config, env)))
    first, second = rollouts
    assert isinstance(second.observations, torch.Tensor)
    assert not isinstance(first.observations, torch.Tensor)
    assert int(first.observations.places.max()) + 1 < 7 * 2 * 4
    whole = first.observations.index_select(0, torch.arange(14)).view(7, 2, -1)
    assert whole.equal(second.observations)
    assert first.values.equal(second.values)
    assert first.actions.equal(second.actions)
