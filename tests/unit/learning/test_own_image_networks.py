"""The user's own networks where observations hold images: what they see, train as, and are refused for."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import probe_envs
import pytest
import sample_image_networks
import torch
from gradients import gradient_of
from gymnasium import spaces
from helpers import drawn, make_config, ppo_objective, tiny_config
from modules import trained_module, whole_and_resumed
from torch.fx.experimental.proxy_tensor import make_fx

from ppolab.agents.policy import check_network
from ppolab.config.checks import ENCODERS
from ppolab.config.loading import from_yaml, to_yaml
from ppolab.config.schema import Config
from ppolab.envs.spaces import row_encoder
from ppolab.errors import ConfigError
from ppolab.learning.actor_critic import ActorCritic, action_distribution
from ppolab.learning.encoders import RowEncoder, note_on_encoders
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.gradient import whole_gradient
from ppolab.learning.image_networks import NETWORKS, Convolutions, Embedded
from ppolab.learning.native.policy import unknown_to_native
from ppolab.learning.objective import Samples
from ppolab.learning.own_network import OwnEncoder, OwnTrunk

EYE = spaces.Box(0, 255, (9, 10, 3), np.uint8)
MIXED = probe_envs.Looks().observation_space
NETWORK = "sample_image_networks:"
WHOLE = {"model.network": f"{NETWORK}Parts", "model.hidden_sizes": [64, 64]}
ENCODER = {"model.encoder": f"{NETWORK}Convolution"}
FOR_ONE = {"model.encoder": {"eye": f"{NETWORK}Dropping", "map": "small"}}
CHOICES = {"network": WHOLE, "encoder": ENCODER, "encoder of one part": FOR_ONE}


def config_of(**settings: Any) -> Config:
    return tiny_config("probe/Looks-v0", **settings)


def policy_for(space: spaces.Space[Any], **settings: Any) -> ActorCritic:
    torch.manual_seed(0)
    layout, _ = row_encoder(space)
    return ActorCritic(
        layout, action_distribution(spaces.Box(-1, 1, (2,))), config_of(**settings).model, normalize=True
    )


def rows_of(space: spaces.Space[Any], count: int, seed: int = 0) -> tuple[Any, torch.Tensor]:
    """Observations, and their rows for a network without scaling."""
    space.seed(seed)
    layout, encode = row_encoder(space)
    batch = [space.sample() for _ in range(count)]
    together = {key: np.stack([one[key] for one in batch]) for key in batch[0]} if isinstance(batch[0], dict) else batch
    raw = encode(together)
    return together, torch.from_numpy(layout.scaled(raw, layout.vector_of(raw).astype(np.float32)))


# --- what it sees ----------------------------------------------------------------------------------------------------


def test_one_image_comes_with_its_channels_first_between_0_and_1() -> None:
    policy = policy_for(EYE, **(WHOLE | {"model.network": f"{NETWORK}Everything"}))
    assert policy.actor.network.about == {"observation_shape": (3, 9, 10)}
    images, rows = rows_of(EYE, 4)
    parameters, values = policy(rows.reshape(2, 2, -1))
    assert parameters.shape == (2, 2, 4) and values.shape == (2, 2)
    seen = policy.actor.network.seen
    assert seen.shape == (4, 3, 9, 10) and seen.dtype == torch.float32
    assert (seen * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy().tolist() == np.stack(images).tolist()


def test_parts_come_by_their_names_in_their_own_shapes() -> None:
    space = spaces.Dict(
        eye=EYE, hand=spaces.Dict(touch=spaces.Box(-np.inf, np.inf, (2, 4)), on=spaces.MultiBinary(3)),
        kind=spaces.Discrete(5), level=spaces.Box(-1, 1, ()),
        map=spaces.Box(0, 255, (7, 6), np.uint8),
    )  # fmt: skip
    policy = policy_for(space, **(WHOLE | {"model.network": f"{NETWORK}Everything"}))
    shapes = {
        "eye": (3, 9, 10), "hand.on": (3,), "hand.touch": (2, 4), "kind": (5,), "level": (1,), "map": (1, 7, 6),
    }  # fmt: skip
    assert policy.actor.network.about == {"observation_shapes": shapes}
    layout, encode = row_encoder(space)
    eye, map_ = np.full((2, 9, 10, 3), 51, np.uint8), np.full((2, 7, 6), 255, np.uint8)
    touch = np.arange(16.0, dtype=np.float32).reshape(2, 2, 4)
    batch = {
        "eye": eye, "hand": {"touch": touch, "on": np.array([[1, 0, 1]] * 2)}, "kind": np.array([4, 0]),
        "level": np.array([0.5, -0.5]), "map": map_,
    }  # fmt: skip
    raw = encode(batch)
    policy(torch.from_numpy(layout.scaled(raw, layout.vector_of(raw).astype(np.float32))))
    seen = policy.actor.network.seen
    assert {name: tuple(part.shape[1:]) for name, part in seen.items()} == shapes
    assert seen["hand.touch"].tolist() == touch.tolist() and seen["hand.on"].tolist() == [[1, 0, 1]] * 2
    assert seen["kind"].tolist() == [[0, 0, 0, 0, 1], [1, 0, 0, 0, 0]] and seen["level"].tolist() == [[0.5], [-0.5]]
    assert seen["eye"].unique().tolist() == pytest.approx([0.2]) and seen["map"].unique().tolist() == [1.0]


def test_a_dict_of_one_image_stays_a_dict() -> None:
    policy = policy_for(spaces.Dict(eye=EYE), **(WHOLE | {"model.network": f"{NETWORK}Everything"}))
    assert policy.actor.network.about == {"observation_shapes": {"eye": (3, 9, 10)}}
    assert list(policy.actor.network.seen) == ["eye"]


def test_hidden_layers_follow_an_encoder_and_the_vector_stands_beside_its_features() -> None:
    policy = policy_for(MIXED, **ENCODER)
    encoder, hidden = policy.actor[0], policy.actor[1]
    assert isinstance(encoder, RowEncoder) and [type(part) for part in encoder.images] == [OwnEncoder, OwnEncoder]
    assert [part.network.layers[0].in_channels for part in encoder.images] == [3, 1]
    assert hidden.in_features == encoder.width == 5 + 6 + 6


def test_one_image_has_an_encoder_of_its_own() -> None:
    policy = policy_for(MIXED, **FOR_ONE)
    assert [type(part) for part in policy.actor[0].images] == [OwnEncoder, Convolutions]
    only = policy_for(MIXED, **{"model.encoder": {"map": f"{NETWORK}Convolution"}})
    assert [type(part) for part in only.actor[0].images] == [Convolutions, OwnEncoder]


def test_arguments_go_to_network_and_encoder() -> None:
    whole = policy_for(MIXED, **WHOLE, **{"+model.kwargs": {"width": 11}})
    assert whole.action_head.in_features == 11
    encoders = policy_for(MIXED, **FOR_ONE, **{"+model.kwargs": {"channels": 7}})
    assert encoders.actor[0].images[0].network.layers[0].out_channels == 7


def test_making_an_encoder_draws_no_more_than_its_first_weights() -> None:
    layout, _ = row_encoder(EYE)
    torch.manual_seed(0)
    assert RowEncoder(layout, f"{NETWORK}Dropping").images[0].network.training
    state = torch.get_rng_state()
    torch.manual_seed(0)
    sample_image_networks.Dropping((3, 9, 10)).eval()(torch.zeros((1, 3, 9, 10)))  # a lazy layer draws now
    assert state.equal(torch.get_rng_state())


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_rows_and_their_parts_have_the_same_answer(choice: str, trunk: str) -> None:
    policy = policy_for(MIXED, **CHOICES[choice], **{"model.trunk": trunk}).eval()
    _, rows = rows_of(MIXED, 5)
    vectors = rows[:, :20].view(torch.float32)
    eye, map_ = rows[:, 20 : 20 + 270], rows[:, 290 : 290 + 42]
    with torch.no_grad():
        parameters, values = policy(rows)
        assert parameters.equal(policy.action_parameters(rows)) and values.equal(policy.values(rows))
        assert parameters.equal(policy.action_parameters_of(vectors, [eye, map_]))
    assert len(parameters[:, 0].unique()) == 5


def test_the_user_s_weights_stay_and_ppolab_s_layers_get_theirs() -> None:
    made = [policy_for(MIXED, **ENCODER, **{"model.orthogonal": choice}) for choice in (True, False)]
    users, hidden = zip(*((each.actor[0].images[0].network, each.actor[1]) for each in made), strict=True)
    assert all(map(torch.equal, users[0].parameters(), users[1].parameters()))
    assert hidden[0].weight.square().sum(1).detach().tolist() == pytest.approx([2.0] * 16, rel=1e-4)
    assert not hidden[0].weight.equal(hidden[1].weight)


def test_native_code_leaves_it_to_pytorch() -> None:
    policy = policy_for(MIXED, **WHOLE)
    assert (
        unknown_to_native(policy, flatten_parameters(policy))
        == f"model.network={NETWORK}Parts is a network of your own"
    )


# --- training --------------------------------------------------------------------------------------------------------


def batch_of(policy: ActorCritic, size: int, seed: int) -> Samples:
    _, rows = rows_of(MIXED, size, seed)
    with torch.no_grad():
        parameters = policy.action_parameters(rows)
        actions = drawn(policy.distribution, parameters, seed)
        log_probs = policy.distribution.log_prob(parameters, actions)
    others = torch.randn((3, size), generator=torch.Generator().manual_seed(seed))
    return Samples(rows, actions, parameters, log_probs, *others, torch.ones(size))


@pytest.mark.parametrize("choice", CHOICES)
def test_the_gradient_is_that_of_ordinary_backpropagation(choice: str) -> None:
    config = config_of(**CHOICES[choice])
    policy = policy_for(MIXED, **CHOICES[choice]).eval()
    batch = batch_of(policy, 12, 0)
    plain = copy.deepcopy(policy)
    loss, _ = ppo_objective(plain, config).function(*plain(batch.observations), batch)
    loss.backward()
    flat = flatten_parameters(policy)
    gradient, _ = gradient_of(policy, flat, config)(flat.vector.detach(), *batch)
    for name, found in flat.named(gradient).items():
        torch.testing.assert_close(found, dict(plain.named_parameters())[name].grad, rtol=1e-4, atol=1e-6)


def test_a_traced_graph_computes_the_same() -> None:
    """What is compiled for long runs."""
    config = config_of(**WHOLE)
    policy = policy_for(MIXED, **WHOLE).eval()
    batch, flat = batch_of(policy, 12, 0), flatten_parameters(policy)
    function = whole_gradient(policy, flat, ppo_objective(policy, config))
    graph = make_fx(function)(flat.vector.detach(), *batch)
    other = (flat.vector.detach() * 1.1, *batch_of(policy, 12, 1))
    torch.testing.assert_close(graph(*other), function(*other))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_weight_is_trained(choice: str) -> None:
    start, end = (trained_module(config_of(**CHOICES[choice]), iterations).policy for iterations in (0, 1))
    same = [name for name, each in end.named_parameters() if each.equal(dict(start.named_parameters())[name])]
    assert same == []
    assert isinstance(end.actor, OwnTrunk) == (choice == "network")


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_a_run_goes_on_from_its_state_bit_for_bit(choice: str, trunk: str) -> None:
    whole, resumed = whole_and_resumed(config_of(**CHOICES[choice], **{"model.trunk": trunk}))
    assert whole.equal(resumed)


# --- what is wrong ---------------------------------------------------------------------------------------------------

SHAPE = "for observations [5, 3, 9, 10] it must give features [5, F]"
MISTAKES = {
    "TooLarge": "forward of observations [5, 3, 9, 10] raised RuntimeError: Calculated padded input size per channel: ",
    "NotFlat": f"forward gave the shape [5, 2, 4, 4]; {SHAPE}, as after nn.Flatten()",
    "OneRow": f"forward gave the shape [1, 30]; {SHAPE}",
    "Viewing": "forward of observations [5, 3, 9, 10] raised RuntimeError: view size is not compatible with input",
    "Doubles": "forward gave numbers of type torch.float64; they must be torch.float32",
    "NotFinite": "forward gave features that are not finite",
    "no_module": "no_module(observation_shape=(3, 9, 10)) gave a builtin_function_or_method; it must be a torch.nn.",
    "ready": "must be a class or a function that makes a network, not a Convolution",
    "the_same": "gave actor and critic networks with the same parameter layers.0.weight",
    "Convolutin": "the module sample_image_networks has no Convolutin; did you mean 'Convolution'?",
    "Parts": "Parts(observation_shape=(3, 9, 10)) raised TypeError: ",
}


@pytest.mark.parametrize("key", ["model.network", "model.encoder"])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_broken_contract_is_told_in_one_line(name: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        policy_for(EYE, **{key: f"{NETWORK}{name}", "model.hidden_sizes": [64, 64]})
    told = str(raised.value)
    assert told.startswith(f"{key}={NETWORK}{name}: {MISTAKES[name]}") and "\n" not in told


def test_the_shapes_of_all_parts_are_told() -> None:
    with pytest.raises(ConfigError) as raised:
        policy_for(MIXED, **(WHOLE | {"model.network": f"{NETWORK}ForParts"}))
    assert str(raised.value).startswith(
        f"model.network={NETWORK}ForParts: forward of observations "
        "{hand: [5, 2], kind: [5, 3], eye: [5, 3, 9, 10], map: [5, 1, 7, 6]} raised KeyError: 'hnd'"
    )


NO_PART = [
    (
        MIXED,
        {"eey": "small"},
        ".eey=small: the observation has no image eey; its images are eye, map; did you mean 'eye'?",
    ),
    (MIXED, {"hand": "small"}, ".hand=small: the observation has no image hand; its images are eye, map"),
    (EYE, {"eye": "small"}, ".eye=small: the observation is one image, without a name; write model.encoder=small"),
    (
        spaces.Box(-1, 1, (3,)),
        {"eye": "small"},
        "={'eye': 'small'}: reads images, and the observation holds none; leave",
    ),
]


def test_encoders_are_those_of_the_rules() -> None:
    assert set(ENCODERS) == set(NETWORKS)


@pytest.mark.parametrize("encoder", [None, *ENCODERS, "a:B", {"eye": "a:B", "hand": {"map": "small", "0": None}}])
def test_names_of_encoders_are_kept_as_they_are_typed(encoder: Any) -> None:
    model = from_yaml(to_yaml(make_config(**{"model.encoder": encoder}))).model
    assert model.encoder == encoder
    nested = {"model.encoder.eye": "a:B", "model.encoder.hand.map": "small", "model.encoder.hand.0": None}
    assert model.encoders == (nested if isinstance(encoder, dict) else {"model.encoder": encoder})
    assert model.is_own == (encoder == "a:B" or isinstance(encoder, dict))


def test_an_image_in_a_nested_dict_is_named_by_its_place() -> None:
    space = spaces.Dict(hand=spaces.Tuple((spaces.Box(0, 255, (7, 7, 3), np.uint8), EYE)))
    policy = policy_for(space, **{"model.encoder": {"hand": {"0": "minigrid"}, "hand.1": f"{NETWORK}Convolution"}})
    assert [type(part[0]) for part in policy.actor[0].images[:1]] == [Embedded]
    assert isinstance(policy.actor[0].images[1], OwnEncoder)


@pytest.mark.parametrize(("space", "encoder", "told"), NO_PART)
def test_an_encoder_for_what_is_not_there_is_refused(space: spaces.Space[Any], encoder: Any, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        policy_for(space, **{"model.encoder": encoder})
    assert str(raised.value).startswith(f"model.encoder{told}")


def test_the_encoder_of_one_part_is_named_where_it_is_wrong() -> None:
    with pytest.raises(ConfigError) as raised:
        policy_for(MIXED, **{"model.encoder": {"map": f"{NETWORK}TooLarge"}})
    assert str(raised.value).startswith(
        f"model.encoder.map={NETWORK}TooLarge: forward of observations [5, 1, 7, 6] rai"
    )


def test_parameters_that_nothing_depends_on_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_network(config_of(**{"model.encoder": f"{NETWORK}Unused", "env_kwargs": {"alone": True}}))
    assert [line.getMessage() for line in caplog.records] == [
        f"model.encoder={NETWORK}Unused: no feature of the {trunk} depends on its parameters forgotten.weight, "
        "forgotten.bias, which therefore stay as they are"
        for trunk in ("actor", "critic")
    ]


def test_the_log_tells_which_networks_were_chosen() -> None:
    layout, _ = row_encoder(spaces.Dict(camera=spaces.Box(0, 255, (64, 64, 3), np.uint8), eye=EYE))
    told = note_on_encoders(layout, make_config().model)
    assert told is not None and told.startswith(
        "model.encoder=null: camera (64, 64, 3) is read by nature, eye (9, 10, 3) is read by small; model=nature_cnn, "
    )
    assert note_on_encoders(layout, make_config("model=nature_cnn").model) is None
    assert note_on_encoders(layout, make_config(**WHOLE).model) is None
    assert note_on_encoders(row_encoder(spaces.Box(-1, 1, (3,)))[0], make_config().model) is None
