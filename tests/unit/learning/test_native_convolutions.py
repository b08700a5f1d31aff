"""Convolutions in C++: they are those of PyTorch, to rounding, and depend neither on threads nor on other rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from gradients import needs_compiler
from gymnasium import spaces
from helpers import make_config, make_context, ppo_objective
from torch import Tensor

from ppolab.core.observation_rows import ImagePart, RowLayout
from ppolab.learning import gradient, update_path
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.epoch import MinibatchOrder, minibatches
from ppolab.learning.gradient import whole_gradient
from ppolab.learning.image_networks import Convolutions, image_network
from ppolab.learning.interface import LearnerContext
from ppolab.learning.native.convolutions import Spare, use_native_convolutions
from ppolab.learning.objective import ChosenRows, Samples
from ppolab.learning.row_parts import channels_first
from ppolab.learning.stacked_images import StackedImages
from ppolab.training import build
from ppolab.training.pytorch_threads import pytorch_threads

pytestmark = needs_compiler

FRAMES = ImagePart("", (4, 40, 38), channels_last=False)
COLOURS = ImagePart("", (36, 44, 3), channels_last=True)
ONE = ImagePart("", (1, 36, 36), channels_last=False)


def context_of(image: ImagePart = FRAMES, **settings: object) -> LearnerContext:
    given = {"model.encoder": "nature", "model.hidden_sizes": [16], "minibatch_size": 8, "target_kl": None}
    config = make_config(**(given | settings))
    torch.manual_seed(0)
    layout = RowLayout(0, (image,))
    policy = ActorCritic(layout, action_distribution(spaces.Discrete(3)), config.model, normalize=False)
    return make_context(policy, config)


def rows_of(image: ImagePart, count: int) -> Tensor:
    """Rows with something before and behind each image."""
    wide = torch.randint(0, 256, (count, image.size + 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return wide[:, 3 : image.size + 3]


def stacks_of(image: ImagePart, count: int) -> StackedImages:
    generator = torch.Generator().manual_seed(1)
    size = image.height_and_width[0] * image.height_and_width[1]
    channels = torch.randint(0, 256, (9, size), dtype=torch.uint8, generator=generator)
    return StackedImages(channels, torch.randint(0, 9, (count, image.channels), generator=generator))


def samples_of(observations: Tensor | StackedImages, count: int) -> Samples:
    generator = torch.Generator().manual_seed(2)
    numbers = [torch.rand(count, generator=generator) for _ in range(4)]
    actions = torch.randint(0, 3, (count, 1), generator=generator)
    return Samples(observations, actions, torch.rand((count, 3), generator=generator), *numbers, torch.ones(count))


def differentiated(network: torch.nn.Module, images: Tensor) -> list[Tensor]:
    features = network(images)
    return [features, *torch.autograd.grad((features * torch.linspace(-1, 1, features.shape[1])).sum(), _all(network))]


def _all(network: torch.nn.Module) -> Sequence[Tensor]:
    return list(network.parameters())


def native(image: ImagePart) -> Convolutions:
    policy = context_of(image).policy
    assert use_native_convolutions(policy)
    network: Convolutions = policy.actor[0].images[0]  # type: ignore[index, union-attr, assignment]
    assert network.all_at_once is not None
    return network


@pytest.mark.parametrize("image", [FRAMES, COLOURS, ONE])
def test_features_and_slopes_are_those_of_pytorch(image: ImagePart) -> None:
    ours = native(image)
    theirs = image_network(image, "nature")
    theirs.load_state_dict(ours.state_dict())
    images = channels_first(rows_of(image, 41), image)  # two groups of samples, of which the second is not full
    for found, expected in zip(differentiated(ours, images), differentiated(theirs, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))


def test_threads_and_other_rows_change_no_bit() -> None:
    network = native(FRAMES)
    images = channels_first(rows_of(FRAMES, 41), FRAMES)
    found = []
    for threads in (1, 2):
        with pytorch_threads(threads):
            found.append(differentiated(network, images))
    assert all(one.equal(two) for one, two in zip(*found, strict=True))
    with torch.no_grad():
        assert network(images[7:8]).equal(found[0][0][7:8])


def test_stacks_need_not_be_put_together() -> None:
    network, stacks = native(FRAMES), stacks_of(FRAMES, 5)
    whole = channels_first(stacks.index_select(0, torch.arange(5)), FRAMES)
    assert network.of_stacks(stacks, FRAMES.height_and_width).equal(network(whole))
    network.all_at_once = None
    assert network.of_stacks(stacks, FRAMES.height_and_width).equal(network(whole))


def test_pytorch_computes_what_may_be_differentiated_twice() -> None:
    network, images = native(FRAMES), channels_first(rows_of(FRAMES, 2), FRAMES)
    assert "Convolutions" in type(network.train()(images).grad_fn).__name__
    assert "Convolutions" not in type(network.eval()(images).grad_fn).__name__
    with torch.no_grad():
        in_native = network(images)
    assert not in_native.equal(network(images))  # which rounds in another way


def test_a_second_forward_pass_leaves_what_the_first_one_kept_alone() -> None:
    network = native(FRAMES)
    first, second = (channels_first(rows_of(FRAMES, 9)[begin : begin + 4], FRAMES) for begin in (0, 5))
    alone = torch.autograd.grad(network(first).sum(), _all(network))
    for _ in range(2):  # the second time in memory that was given back
        features = network(first)
        network(second)
        again = torch.autograd.grad(features.sum(), _all(network))
        assert all(one.equal(two) for one, two in zip(alone, again, strict=True))


def test_memory_is_used_again_once_it_was_given_back() -> None:
    spare = Spare()
    first = spare.take(2, 3)
    assert spare.take(2, 3).data_ptr() != first.data_ptr()
    spare.give_back(first)
    assert spare.take(2, 3) is first
    spare.give_back(first)
    assert spare.take(3, 3).shape == (3, 3)


@pytest.mark.parametrize(
    ("encoder", "bf16", "used"), [("nature", False, True), ("nature", True, False), ("halving", False, False)]
)
def test_layers_with_padding_and_shorter_numbers_are_left_to_pytorch(encoder: str, bf16: bool, used: bool) -> None:
    policy = context_of(**{"model.encoder": encoder}).policy
    policy.bf16 = bf16
    assert use_native_convolutions(policy) == used
    parts = [part for part in policy.modules() if isinstance(part, Convolutions)]
    assert [part.all_at_once is not None for part in parts] == [used, used]  # of policy and value


@pytest.mark.parametrize(("compile", "used"), [("auto", True), ("false", False), ("true", False)])
def test_pytorch_s_compiler_gets_what_it_can_trace(monkeypatch: pytest.MonkeyPatch, compile: str, used: bool) -> None:
    asked: list[ActorCritic] = []
    monkeypatch.setattr(build, "use_native_convolutions", asked.append)
    monkeypatch.setattr(build, "make_algorithm", lambda _: None)
    monkeypatch.setattr(build, "Collector", lambda *_, **__: None)
    monkeypatch.setattr(build, "Measuring", lambda *_: None)
    context = context_of(compile=compile)

    class Env:
        masks, masked = None, False
        env_id = mask_source = policy_space = None

    monkeypatch.setattr(build, "note_on_masks", lambda *_: None)
    build.build_module(context.config, Env(), context.policy)  # type: ignore[arg-type]
    assert bool(asked) == used


def test_the_gradient_of_a_minibatch_is_the_same_in_memory_that_stays_and_of_stacks() -> None:
    context = context_of(compile="false")
    use_native_convolutions(context.policy)
    context.policy.train()
    objective, vector = ppo_objective(context.policy, context.config), context.flat.vector.detach()
    stacks = stacks_of(FRAMES, 6)
    whole = samples_of(stacks.index_select(0, torch.arange(6)), 6)
    plain, terms = whole_gradient(context.policy, context.flat, objective)(vector, *whole)
    into = torch.full_like(vector, torch.nan)
    found, same = whole_gradient(context.policy, context.flat, objective, into)(vector, *samples_of(stacks, 6))
    assert found is into
    assert found.equal(plain)
    assert same.equal(terms)
    assert plain.abs().max() > 0


def test_minibatches_of_stacks_are_put_together_only_for_who_cannot_read_them() -> None:
    stacks = stacks_of(FRAMES, 6)
    rows, order = (
        torch.tensor([5, 1, 0, 2]),
        MinibatchOrder(torch.tensor([3, 0, 1, 2]), torch.tensor([2, 2]), torch.tensor([2, 2])),
    )
    samples = samples_of(stacks, 4)._replace(observations=ChosenRows(stacks, rows))
    lazily = list(minibatches(samples, order, 2, stacks=True))
    for part, copied in zip(lazily, minibatches(samples, order, 2), strict=True):
        assert isinstance(part.observations, StackedImages)
        assert isinstance(copied.observations, Tensor)
        assert part.observations.index_select(0, torch.arange(2)).equal(copied.observations)


@pytest.mark.parametrize("used", [True, False])
def test_larger_parts_are_differentiated_where_less_is_kept(monkeypatch: pytest.MonkeyPatch, used: bool) -> None:
    monkeypatch.setattr(gradient, "IMAGES_AT_ONCE", 2)
    monkeypatch.setattr(gradient, "IMAGES_AT_ONCE_IN_NATIVE", 4)
    context = context_of(compile="auto" if used else "false")
    if used:
        use_native_convolutions(context.policy)
    context.policy.train()
    sizes: list[int] = []
    original = ActorCritic.forward

    def watched(policy: ActorCritic, observations: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(observations.shape[0])
        return original(policy, observations)

    monkeypatch.setattr(ActorCritic, "forward", watched)
    objective = ppo_objective(context.policy, context.config)
    update_path._pytorch_gradient(context, objective)(
        context.flat.vector.detach(),
        *samples_of(stacks_of(FRAMES, 8) if used else rows_of(FRAMES, 8), 8),
    )
    assert sizes == ([4, 4] if used else [2, 2, 2, 2])
