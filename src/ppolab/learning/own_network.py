"""Make the user's own networks and check their contract: a trunk of `ActorCritic`, or an encoder of images.

The contract: NAME(observation_size=D, **model.kwargs) returns an `nn.Module` that maps observations [N, D] to features
[N, F], row by row. An image comes as [N, C, H, W] between 0 and 1, for observation_shape=(C, H, W); parts of a Dict or
Tuple with images come as a dict of tensors, for observation_shapes. docs/extending.md has it in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ppolab.core.observation_rows import ImagePart, RowLayout
from ppolab.errors import ConfigError, NetworkError
from ppolab.learning.image_networks import Pixels
from ppolab.learning.row_parts import RowParts, channels_first, named_vectors
from ppolab.runtime.user_code import named_object, what_was_raised

if TYPE_CHECKING:
    from ppolab.config.schema import ModelConfig

ROWS = 5
"""Observations in a trial of a network."""
PIXELS = Pixels()
"""Without parameters, and so one for all."""

Observations = Tensor | dict[str, Tensor]
"""What a network of the user's sees: a tensor [N, ...], or one for each part by its name."""


class OwnNetwork(nn.Module):
    """A network of the user's that keeps its contract: observations of N rows -> features [N, F].

    Attributes:
        setting: as it was typed; begins every message. width: F.
        unreached: names of parameters that the features do not depend on; no update changes them.
    """

    def __init__(self, setting: str, network: nn.Module, observations: Observations) -> None:
        """Check `network`.

        Args:
            observations: `ROWS` of them, made up.

        Raises:
            ConfigError: it does not keep the contract.
        """
        super().__init__()
        self.setting = setting
        self.network = network
        network.eval()
        with torch.no_grad():  # lazy layers draw their weights now, as all others did when they were made
            self.width = self._trial(observations).shape[1]
        with torch.random.fork_rng(devices=[]):
            self._check_rows(observations)
            self._check_parameters()
            network.train()
            self._check_buffers(observations)
            self.unreached = self._unreached(observations)

    def features(self, observations: Observations, count: int) -> Tensor:
        """Return the features [N, F] of `count` observations.

        Raises:
            NetworkError: the user's code raised, or gives another shape than in its trial.
        """
        try:
            features: Tensor = self.network(observations)
            return features.reshape(count, self.width)
        except Exception as error:  # a user's module may raise anything
            told = f"forward of observations {_shapes(observations)} raised {what_was_raised(error)}"
            raise NetworkError(f"{self.setting}: {told}") from error

    def _problem(self, told: str) -> ConfigError:
        return ConfigError(f"{self.setting}: {told}")

    def _trial(self, observations: Observations) -> Tensor:
        """Return the features of `observations` of N rows, which are then known to be [N, F] finite numbers."""
        count, shapes = _count(observations), _shapes(observations)
        with self._raising(f"forward of observations {shapes}"):
            features = self.network(observations)
        rule = f"for observations {shapes} it must give features [{count}, F]"
        if not isinstance(features, Tensor):
            kind = type(features).__name__
            raise self._problem(f"forward gave a {kind}, not a tensor; {rule}, to which ppolab adds its heads")
        if features.dim() != 2 or features.shape[0] != count or features.shape[1] == 0:
            fix = ", as after nn.Flatten()" if features.dim() > 2 and features.shape[0] == count else ""
            raise self._problem(f"forward gave the shape {list(features.shape)}; {rule}{fix}")
        if features.dtype != torch.float32:
            raise self._problem(f"forward gave numbers of type {features.dtype}; they must be torch.float32")
        if not features.isfinite().all():
            raise self._problem("forward gave features that are not finite, for observations that are")
        return features

    @torch.no_grad()
    def _check_rows(self, observations: Observations) -> None:
        """The ratio of two policies needs an observation to have one answer, whatever stands beside it."""
        together, again = self._trial(observations), self._trial(observations)
        alone = torch.cat([self._trial(row) for row in _single(observations)])
        if not together.equal(again):
            raise self._problem(
                "forward gave other features at a second call with the same observations, in evaluation mode; they "
                "must depend on observations and parameters alone"
            )
        if not torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
            raise self._problem(
                "the features of an observation depend on the others in its batch; every row must be computed by "
                "itself, as nn.LayerNorm does and normalisation over a batch does not"
            )

    def _check_parameters(self) -> None:
        for name, parameter in self.network.named_parameters():
            if parameter.dtype != torch.float32:
                raise self._problem(f"the parameter {name} is of type {parameter.dtype}; it must be torch.float32")
            if parameter.device.type != "cpu":
                raise self._problem(
                    f"the parameter {name} is on {parameter.device}; make the network on the CPU, ppolab moves it"
                )

    @torch.no_grad()
    def _check_buffers(self, observations: Observations) -> None:
        """An update evaluates a network at parameters that it may roll back; running statistics would stay."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        self._trial(observations)
        for name, buffer in self.network.named_buffers():
            if name not in before or not torch.equal(buffer, before[name]):
                raise self._problem(
                    f"forward in training mode changes the buffer {name}, as nn.BatchNorm1d does; use layers without "
                    "running statistics, such as nn.LayerNorm: normalize_observations=true scales the inputs"
                )

    def _unreached(self, observations: Observations) -> tuple[str, ...]:
        """Return the names of parameters without a gradient, after one was computed in the way that updates do it."""
        parameters = {name: each for name, each in self.network.named_parameters() if each.requires_grad}
        if not parameters:
            return ()

        features = self._trial(observations)
        if not features.requires_grad:
            raise self._problem(
                "no gradient reaches its parameters; forward must not compute features under torch.no_grad(), or "
                "detach them"
            )
        with self._raising("differentiating forward"):
            slopes = torch.autograd.grad(features.sum(), list(parameters.values()), allow_unused=True)
        return tuple(name for name, slope in zip(parameters, slopes, strict=True) if slope is None)

    @contextmanager
    def _raising(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a user's module may raise anything
            raise self._problem(f"{what} raised {what_was_raised(error)}") from error


def _count(observations: Observations) -> int:
    return len(observations) if isinstance(observations, Tensor) else len(next(iter(observations.values())))


def _shapes(observations: Observations) -> str:
    """Return the shapes as [5, 3], or {eye: [5, 3, 64, 64], hand: [5, 7]}."""
    if isinstance(observations, Tensor):
        return str(list(observations.shape))
    return f"{{{', '.join(f'{name}: {list(part.shape)}' for name, part in observations.items())}}}"


def _single(observations: Observations) -> Iterator[Observations]:
    """Yield every observation as a batch of its own."""
    if isinstance(observations, Tensor):
        yield from torch.split(observations, 1)
        return
    for row in range(_count(observations)):
        yield {name: part[row : row + 1] for name, part in observations.items()}


class OwnTrunk(OwnNetwork):
    """A network of the user's for the whole observation, as a trunk: rows [..., W] -> features [..., F]."""

    def __init__(self, setting: str, network: nn.Module, layout: RowLayout) -> None:
        vectors = torch.randn((ROWS, layout.vector_size), generator=torch.Generator().manual_seed(0))
        images = [_made_up(image.size) for image in layout.images]
        super().__init__(setting, network, _seen(layout, vectors, images))
        self._layout = layout
        self._parts = RowParts(layout)

    def forward(self, rows: Tensor) -> Tensor:
        vectors, images = self._parts.of(rows.reshape(-1, rows.shape[-1]))
        return self.features_of(vectors, images).reshape(*rows.shape[:-1], self.width)

    def features_of(self, vectors: Tensor, images: Sequence[Tensor]) -> Tensor:
        """Return features [N, F] of scaled vectors [N, D] and images, each [N, size] bytes."""
        return self.features(_seen(self._layout, vectors, images), vectors.shape[0])


class OwnEncoder(OwnNetwork):
    """A network of the user's for one image: bytes [N, C, H, W] -> features [N, F]."""

    def __init__(self, setting: str, network: nn.Module, image: ImagePart) -> None:
        super().__init__(setting, network, PIXELS(channels_first(_made_up(image.size), image)))

    def forward(self, images: Tensor) -> Tensor:
        return self.features(PIXELS(images), images.shape[0])


def _made_up(size: int) -> Tensor:
    """Return bytes [ROWS, size]."""
    return torch.randint(256, (ROWS, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def _seen(layout: RowLayout, vectors: Tensor, images: Sequence[Tensor]) -> Observations:
    """Return the parts of rows as a network sees them: vectors [N, D], an image [N, C, H, W], or all by their names."""
    if not layout.images:
        return vectors
    pixels: list[Tensor] = [
        PIXELS(channels_first(flat, image)) for flat, image in zip(images, layout.images, strict=True)
    ]
    if _is_one_image(layout):
        return pixels[0]
    return named_vectors(vectors, layout) | {
        image.name: values for image, values in zip(layout.images, pixels, strict=True)
    }


def _is_one_image(layout: RowLayout) -> bool:
    return len(layout.images) == 1 and not layout.images[0].name


def own_trunk(layout: RowLayout, model: ModelConfig) -> OwnTrunk:
    """Return a new network of the user's; its weights come from PyTorch's global generator, and are left as they are.

    Raises:
        ConfigError: there is none of this name, or it does not keep the contract.
    """
    assert model.network is not None
    setting = f"model.network={model.network}"
    network = _made(setting, model.network, _about(layout) | model.kwargs)
    return OwnTrunk(setting, network, layout)


def own_encoder(key: str, name: str, image: ImagePart, kwargs: Mapping[str, Any]) -> OwnEncoder:
    """Return a new encoder of the user's for one image; otherwise as `own_trunk`.

    Args:
        key: the setting. name: its value, MODULE:NAME.
    """
    setting = f"{key}={name}"
    network = _made(setting, name, {"observation_shape": image.channels_first, **kwargs})
    return OwnEncoder(setting, network, image)


def _about(layout: RowLayout) -> dict[str, Any]:
    """Return what a network is told of the observations when it is made."""
    if not layout.images:
        return {"observation_size": layout.vector_size}
    if _is_one_image(layout):
        return {"observation_shape": layout.images[0].channels_first}
    vectors = {part.name: part.shape for part in layout.vectors}
    return {"observation_shapes": vectors | {image.name: image.channels_first for image in layout.images}}


def _made(setting: str, spelled: str, arguments: Mapping[str, Any]) -> nn.Module:
    key, _, name = setting.partition("=")[0], *spelled.rpartition(":")[1:]
    make: Callable[..., Any] = named_object(setting, spelled, f"{key}=my_package:MyNetwork")
    if isinstance(make, nn.Module) or not callable(make):
        raise ConfigError(
            f"{setting}: must be a class or a function that makes a network, not a {type(make).__name__}: actor and "
            "critic each need a new one"
        )
    call = f"{name}({', '.join(f'{argument}={value!r}' for argument, value in arguments.items())})"
    try:
        network = make(**arguments)
    except Exception as error:
        raise ConfigError(f"{setting}: {call} raised {what_was_raised(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{setting}: {call} gave a {type(network).__name__}; it must be a torch.nn.Module")
    return network


def refuse_common_parameters(actor: nn.Module, critic: nn.Module) -> None:
    """Raise ConfigError where networks of the user's in both are one: updates of the value would move the policy."""
    known = {id(parameter) for parameter in actor.parameters()}
    for own in own_networks(critic):
        for name, parameter in own.network.named_parameters():
            if parameter.requires_grad and id(parameter) in known:
                raise ConfigError(
                    f"{own.setting}: gave actor and critic networks with the same parameter {name}; make a new network "
                    "at every call, or set model.trunk=shared"
                )


def own_networks(module: nn.Module) -> Iterator[OwnNetwork]:
    """Yield the networks of the user's in `module`."""
    return (part for part in module.modules() if isinstance(part, OwnNetwork))
