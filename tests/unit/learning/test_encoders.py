"""Networks for images: what they see, what they refuse, and what an update makes of them."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from helpers import make_config

from ppolab.core.observation_rows import ImagePart, RowLayout
from ppolab.errors import ConfigError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.encoders import RowEncoder
from ppolab.learning.image_networks import NETWORKS, Embedded, Pixels, Residual, default_network, image_network
from ppolab.learning.row_parts import channels_first

SQUARE = ImagePart("", (7, 7, 3), channels_last=True)
FRAMES = ImagePart("", (4, 84, 84), channels_last=False)


def policy_for(layout: RowLayout, **settings: object) -> ActorCritic:
    torch.manual_seed(0)
    config = make_config(**settings)
    return ActorCritic(layout, action_distribution(spaces.Discrete(3)), config.model, normalize=True)


def test_images_get_their_channels_first_without_a_copy() -> None:
    flat = torch.tensor([[0, 51, 102, 153, 204, 255]], dtype=torch.uint8)
    seen = channels_first(flat, ImagePart("", (1, 2, 3), channels_last=True))
    assert seen.shape == (1, 3, 1, 2)
    assert seen[0, :, 0].T.tolist() == [[0, 51, 102], [153, 204, 255]]
    assert seen.data_ptr() == flat.data_ptr()
    assert channels_first(flat, ImagePart("", (3, 1, 2), channels_last=False))[0, 0, 0].tolist() == [0, 51]


def test_pixels_are_between_0_and_1_with_the_channels_last_in_memory() -> None:
    seen = Pixels()(torch.tensor([0, 51, 204, 255], dtype=torch.uint8).view(1, 2, 1, 2))
    assert seen.flatten().tolist() == pytest.approx([0.0, 0.2, 0.8, 1.0])
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_the_nature_network_is_that_of_the_paper() -> None:
    encoder = RowEncoder(RowLayout(0, (FRAMES,)))
    shapes = [tuple(parameter.shape) for name, parameter in encoder.named_parameters() if name.endswith("weight")]
    assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3)]
    assert encoder.width == 3136


def test_few_pixels_are_read_with_small_kernels() -> None:
    encoder = RowEncoder(RowLayout(5, (SQUARE,)))
    assert encoder.width == 5 + 64 * 7 * 7


@pytest.mark.parametrize(
    ("shape", "name", "width"),
    [
        ((7, 7, 3), "small", 64 * 7 * 7),
        ((16, 16, 3), "small", 64 * 16 * 16),
        ((17, 16, 3), "halving", 64 * 5 * 4),
        ((31, 28, 3), "halving", 64 * 8 * 7),
        ((35, 160, 3), "halving", 64 * 3 * 10),
        ((2, 1000, 3), "halving", 64 * 1 * 63),
        ((36, 36, 3), "nature", 64),
    ],
)
def test_the_network_of_an_image_suits_its_size(shape: tuple[int, int, int], name: str, width: int) -> None:
    image = ImagePart("", shape, channels_last=True)
    assert default_network(image) == name
    assert RowEncoder(RowLayout(0, (image,))).width == width


def test_a_small_image_is_halved_no_further() -> None:
    assert image_network(SQUARE, "halving")(torch.zeros((1, 3, 7, 7), dtype=torch.uint8)).shape == (1, 64 * 7 * 7)


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


def test_an_encoder_without_an_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^model\.encoder=nature: reads images, .*; leave it out, or use model=mlp$"):
        policy_for(RowLayout(4, ()), **{"model.encoder": "nature"})


PARAMETERS = {  # of an image of 64 x 64 with 3 channels, by the papers' layers
    "nature": (8 * 8 * 3 + 1) * 32 + (4 * 4 * 32 + 1) * 64 + (3 * 3 * 64 + 1) * 64,
    "impala": (27 + 1) * 16 + 4 * (144 + 1) * 16 + (144 + 1) * 32 + 4 * (288 + 1) * 32 + 5 * (288 + 1) * 32,
    "small": (27 + 1) * 32 + (288 + 1) * 64 + (576 + 1) * 64,
    "minigrid": 3 * 16 * 16 + (64 + 1) * 32 + (128 + 1) * 64 + (256 + 1) * 64,
}
PARAMETERS |= {"impoola": PARAMETERS["impala"], "halving": PARAMETERS["small"]}
FEATURES = {
    "nature": 4 * 4 * 64, "impala": 8 * 8 * 32, "impoola": 32, "small": 64 * 64 * 64, "halving": 8 * 8 * 64,
    "minigrid": 61 * 61 * 64,
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_layers_of_its_paper(name: str) -> None:
    network = image_network(ImagePart("", (64, 64, 3), channels_last=True), name)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    with torch.no_grad():
        features = network(torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8))
    assert features.shape == (2, FEATURES[name])


def test_a_residual_adds_to_what_it_sees() -> None:
    layer = Residual(4)
    for convolution in (layer.first, layer.second):
        torch.nn.init.zeros_(convolution.weight)
        torch.nn.init.zeros_(convolution.bias)
    seen = torch.randn((1, 4, 5, 5))
    assert layer(seen).equal(seen)


def test_cells_are_sums_of_the_vectors_of_their_numbers() -> None:
    embedded = Embedded(2)
    grid = torch.tensor([[[[3, 200]], [[0, 15]]]], dtype=torch.uint8)
    table = embedded.table.detach()
    assert torch.allclose(embedded(grid)[0, :, 0, 0], table[3] + table[16])
    assert torch.allclose(embedded(grid)[0, :, 0, 1], table[15] + table[31])


@pytest.mark.parametrize(
    ("name", "shape", "fits"),
    [("nature", (35, 84, 3), "halving"), ("nature", (9, 84, 1), "halving"), ("minigrid", (3, 7, 3), "small")],
)
def test_an_image_that_is_too_small_is_refused(name: str, shape: tuple[int, int, int], fits: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.encoder={name}: needs .* is smaller; use {fits}, or leave it"):
        image_network(ImagePart("", shape, channels_last=True), name)
    with pytest.raises(ConfigError, match=rf", and b\.c .* is smaller; set model\.encoder\.b\.c={fits}$"):
        image_network(ImagePart("b.c", shape, channels_last=True), name)
