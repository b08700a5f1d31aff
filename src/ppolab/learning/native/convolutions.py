"""Convolutions of images in C++, for PyTorch's autograd: convolutions.hpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.image_networks import Convolutions
from ppolab.learning.native.library import library_problem, native_library
from ppolab.learning.native.structures import NativeConvolution, NativeImages, NativeWeights

OUTPUTS = 16
"""Channels are handled so many at a time."""


def use_native_convolutions(policy: ActorCritic) -> bool:
    """Let the encoders of `policy` convolve in C++, where that can be done; return whether it is, for any.

    Not where PyTorch's compiler traces them: it would not see these products.
    """
    if policy.bf16 or library_problem() is not None:
        return False
    found = [part for part in policy.modules() if isinstance(part, Convolutions) and _is_known(part.layers)]
    for part in found:
        part.all_at_once = NativeConvolutions(part.layers)
    return bool(found)


def _is_known(layers: Sequence[nn.Conv2d]) -> bool:
    return all(
        layer.weight.is_cpu
        and layer.weight.dtype == torch.float32
        and layer.padding == (0, 0)
        and layer.out_channels % OUTPUTS == 0
        for layer in layers
    )


class NativeConvolutions:
    """Compute what `Convolutions` does with these layers, differentiable once.

    The result of a row depends neither on other rows nor on the number of threads, and gradients not on the latter.
    """

    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        self._layers = layers
        self._spare = Spare()

    def __call__(self, images: Tensor, places: Tensor | None = None) -> Tensor:
        """Return features [N, F] of images [N, C, H, W] of bytes, whose rows may lie anywhere.

        Args:
            places: [N, C] of which channels the images consist; `images` are then [K, H, W], all channels.
        """
        parameters: list[Any] = [parameter for layer in self._layers for parameter in (layer.weight, layer.bias)]
        shapes = _shapes(self._layers, *images.shape[-2:])
        if not torch.is_grad_enabled():
            return _forward(shapes, images, places, parameters, None)
        features: Tensor
        features, _ = _Convolutions.apply(shapes, self._spare, images, places, *parameters)  # type: ignore[no-untyped-call]
        return features


class Spare:
    """Memory for what `backward` needs of `forward`, given back and taken again: it is by far the largest piece.

    Were it freed, other tensors would take parts of its place, and the next one would need a new one.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def take(self, rows: int, size: int) -> Tensor:
        """Return memory [rows, size] that nobody else has."""
        memory, self._memory = self._memory, None
        return memory if memory is not None and memory.shape == (rows, size) else torch.empty((rows, size))

    def give_back(self, memory: Tensor) -> None:
        """Keep memory that nobody reads any more."""
        self._memory = memory


def _forward(
    shapes: Sequence[NativeConvolution],
    images: Tensor,
    places: Tensor | None,
    parameters: Sequence[Tensor],
    kept: Tensor | None,
) -> Tensor:
    """Return features [N, F]; fill what `backward` needs."""
    features = torch.empty((len(images if places is None else places), _outputs(shapes[-1])))
    native_library().convolutions_forward(
        *_layers(shapes, parameters), torch.get_num_threads(), _native_images(images, places),
        None if kept is None else kept.data_ptr(), features.data_ptr(),
    )  # fmt: skip
    return features


class _Convolutions(torch.autograd.Function):
    @staticmethod
    def forward(
        shapes: Sequence[NativeConvolution], spare: Spare, images: Tensor, places: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = len(images if places is None else places)
        kept = spare.take(rows, sum(_outputs(shape) for shape in shapes[:-1]))
        return _forward(shapes, images, places, parameters, kept), kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        features, ctx.kept = output
        ctx.shapes, ctx.spare, *tensors = inputs
        ctx.mark_non_differentiable(ctx.kept)
        ctx.set_materialize_grads(False)  # of what is kept
        ctx.save_for_backward(features, *tensors)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        features, images, places, *parameters = ctx.saved_tensors
        slopes = slopes.contiguous()
        of_parameters = [torch.empty_like(parameter) for parameter in parameters]
        native_library().convolutions_backward(
            *_layers(ctx.shapes, parameters), torch.get_num_threads(), _native_images(images, places),
            ctx.kept.data_ptr(), features.data_ptr(), slopes.data_ptr(), _pointers(of_parameters),
        )  # fmt: skip
        ctx.spare.give_back(ctx.kept)
        return None, None, None, None, *of_parameters


def _shapes(layers: Sequence[nn.Conv2d], height: int, width: int) -> list[NativeConvolution]:
    shapes = []
    for layer in layers:
        side, stride = layer.kernel_size[0], layer.stride[0]
        shapes.append(NativeConvolution(layer.in_channels, height, width, layer.out_channels, side, stride))
        height, width = ((length - side) // stride + 1 for length in (height, width))
    return shapes


def _outputs(shape: NativeConvolution) -> int:
    """Return how many numbers a convolution gives."""
    places = ((length - shape.side) // shape.stride + 1 for length in (shape.in_height, shape.in_width))
    return int(shape.outputs * next(places) * next(places))


def _layers(shapes: Sequence[NativeConvolution], parameters: Sequence[Tensor]) -> tuple[Any, int, Any]:
    return (NativeConvolution * len(shapes))(*shapes), len(shapes), _pointers(parameters)


def _pointers(parameters: Sequence[Tensor]) -> Any:
    assert all(each.is_contiguous() for each in parameters)
    pairs = [
        NativeWeights(*(each.data_ptr() for each in parameters[at : at + 2])) for at in range(0, len(parameters), 2)
    ]
    return (NativeWeights * len(pairs))(*pairs)


def _native_images(images: Tensor, places: Tensor | None) -> Any:
    """Return where images [N, C, H, W] of bytes are, or channels [K, H, W] and which of them are in which place."""
    assert images.dtype == torch.uint8
    if places is not None:
        assert images.is_contiguous()
        assert places.is_contiguous()
        assert places.dtype == torch.int64
        return ctypes.byref(NativeImages(images.data_ptr(), len(places), 0, False, places.data_ptr()))
    channels, height, width = images.shape[1:]
    strides = images.stride()[1:]
    assert strides in ((height * width, width, 1), (1, width * channels, channels)), "`channels_first` of rows"
    return ctypes.byref(NativeImages(images.data_ptr(), len(images), images.stride(0), strides[0] == 1, None))
