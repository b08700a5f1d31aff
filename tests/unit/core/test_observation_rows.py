"""A row holds the parts of an observation, and gives them back."""

from __future__ import annotations

import numpy as np
import pytest

from ppolab.core.observation_rows import ImagePart, RowLayout

EYE = ImagePart("eye", (2, 3, 1), channels_last=True)
EAR = ImagePart("ear", (1, 2, 2), channels_last=False)
VECTOR = np.array([[1.5, -2.0, 3.0], [0.25, 7.0, -1.0]])
EYES = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)
EARS = np.arange(100, 108, dtype=np.uint8).reshape(2, 1, 2, 2)


def test_without_images_a_row_is_the_vector_itself() -> None:
    layout = RowLayout(3)
    assert layout.packed(VECTOR, []) is VECTOR
    assert layout.vector_of(VECTOR) is VECTOR
    scaled = VECTOR.astype(np.float32)
    assert layout.scaled(VECTOR, scaled) is scaled
    assert (layout.raw_width, layout.scaled_width, layout.raw_dtype) == (3, 3, np.float64)


def test_one_image_alone_is_not_copied() -> None:
    layout = RowLayout(0, (EYE,))
    rows = layout.packed(np.zeros((0, 0)), [EYES])
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert np.shares_memory(rows, EYES)
    assert layout.vector_of(rows).shape == (2, 0)
    assert layout.scaled(rows, np.zeros((2, 0), np.float32)) is rows
    assert (layout.raw_width, layout.scaled_width) == (6, 6)


def test_a_vector_and_two_images_lie_side_by_side() -> None:
    layout = RowLayout(3, (EYE, EAR))
    rows = layout.packed(VECTOR, [EYES, EARS])
    assert rows.shape == (2, layout.raw_width) == (2, 40)  # 24 + 6 + 4 bytes, up to a multiple of 8
    assert layout.vector_of(rows).tolist() == VECTOR.tolist()
    assert rows[1, 24:30].tolist() == [6, 7, 8, 9, 10, 11]
    assert rows[1, 30:34].tolist() == [104, 105, 106, 107]
    for_network = layout.scaled(rows, np.full((2, 3), 0.5, np.float32))
    assert for_network.shape == (2, layout.scaled_width) == (2, 24)  # 12 + 6 + 4 bytes, up to a multiple of 4
    assert for_network[:, :12].view(np.float32).tolist() == [[0.5] * 3] * 2
    assert [for_network[0, place].tolist() for place in layout.image_places(12)] == [
        [0, 1, 2, 3, 4, 5],
        [100, 101, 102, 103],
    ]


def test_rows_of_several_axes_keep_them() -> None:
    layout = RowLayout(3, (EYE, EAR))
    rows = np.stack([layout.packed(VECTOR, [EYES, EARS])] * 4)
    assert layout.vector_of(rows).shape == (4, 2, 3)
    assert layout.vector_of(rows)[3, 1].tolist() == [0.25, 7.0, -1.0]
    layout.vector_of(rows)[3, 1] = 9.0
    assert rows[3, 1, :24].view(np.float64).tolist() == [9.0] * 3


@pytest.mark.parametrize(
    ("image", "channels", "pixels"), [(EYE, 1, (2, 3)), (ImagePart("", (4, 84, 80), channels_last=False), 4, (84, 80))]
)
def test_an_image_knows_its_channels(image: ImagePart, channels: int, pixels: tuple[int, int]) -> None:
    assert (image.channels, image.height_and_width) == (channels, pixels)
