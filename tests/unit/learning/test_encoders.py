"""Networks for images: what they see, what they refuse, and what an update makes of them."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from helpers import make_config

from ppolab.core.observation_rows import ImagePart, RowLayout
from ppolab.errors import ConfigError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.encoders import RowEncoder, pixels

SQUARE = ImagePart("", (7, 7, 3), channels_last=True)
FRAMES = ImagePart("", (4, 84, 84), channels_last=False)


def policy_for(layout: RowLayout, **settings: object) -> ActorCritic:
    torch.manual_seed(0)
    config = make_config(**settings)
    return ActorCritic(layout, action_distribution(spaces.Discrete(3)), config.model, normalize=True)


def test_pixels_are_between_0_and_1_with_the_channels_first() -> None:
    image = ImagePart("", (1, 2, 3), channels_last=True)
    seen = pixels(torch.tensor([[0, 51, 102, 153, 204, 255]], dtype=torch.uint8), image)
    assert seen.shape == (1, 3, 1, 2)
    assert seen[0, :, 0].T.tolist() == [pytest.approx([0.0, 0.2, 0.4]), pytest.approx([0.6, 0.8, 1.0])]
    assert seen.is_contiguous(memory_format=torch.channels_last)
    other = ImagePart("", (3, 1, 2), channels_last=False)
    assert pixels(torch.tensor([[0, 51, 102, 153, 204, 255]], dtype=torch.uint8), other)[0, 0, 0].tolist() == [
        0.0, pytest.approx(0.2),
    ]  # fmt: skip


def test_the_nature_network_is_that_of_the_paper() -> None:
    encoder = RowEncoder(RowLayout(0, (FRAMES,)))
    shapes = [tuple(parameter.shape) for name, parameter in encoder.named_parameters() if name.endswith("weight")]
    assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3)]
    assert encoder.width == 3136


def test_few_pixels_are_read_with_small_kernels() -> None:
    encoder = RowEncoder(RowLayout(5, (SQUARE,)))
    assert encoder.width == 5 + 64 * 7 * 7


def test_nature_refuses_an_image_that_is_too_small() -> None:
    with pytest.raises(ConfigError, match=r"^model.encoder=nature: needs images of 36 .*\(7, 7, 3\).*leave it out$"):
        RowEncoder(RowLayout(0, (SQUARE,)), "nature")


def test_the_vector_passes_beside_the_image() -> None:
    layout = RowLayout(2, (SQUARE,))
    encoder = RowEncoder(layout, "small")
    rows = torch.zeros((1, layout.scaled_width), dtype=torch.uint8)
    rows[:, :8] = torch.tensor([[1.5, -2.5]]).view(torch.uint8)
    assert encoder(rows)[0, :2].tolist() == [1.5, -2.5]


def test_rows_and_their_parts_have_the_same_answer() -> None:
    layout = RowLayout(2, (SQUARE,))
    policy = policy_for(layout)
    rows = torch.randint(0, 255, (5, 4, layout.scaled_width), dtype=torch.uint8)
    rows[..., :8] = torch.randn((5, 4, 2)).view(torch.uint8)
    flat = rows.flatten(0, 1)
    vectors, image = flat[:, :8].view(torch.float32), flat[:, 8:155]
    with torch.no_grad():
        parameters, values = policy(rows)
        assert parameters.shape == (5, 4, 3) and values.shape == (5, 4)
        assert torch.allclose(parameters.flatten(0, 1), policy.action_parameters_of(vectors, [image]), atol=1e-6)


def test_a_network_of_the_users_own_takes_vectors_only() -> None:
    with pytest.raises(ConfigError, match=r"^model\.network=sample_networks:Residual: .*images.*leave it out$"):
        policy_for(RowLayout(0, (SQUARE,)), **{"model.network": "sample_networks:Residual"})
