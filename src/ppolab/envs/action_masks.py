"""Find the mask of the actions that an environment allows, and say what is wrong with one.

A mask is looked for in an entry of a Dict observation, in the info, and in a method of the environment; the first one
counts. It has a flag for every value of a Discrete action; of an action of several choices the flags of its components
stand one after another. In the observation it may have a flag for every combination of their values instead.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppolab.config.schema import EnvConfig
from ppolab.envs.choices import Combinations, choice_sizes, with_choices
from ppolab.errors import ConfigError, EnvError, nearest

Flags = NDArray[np.bool_]

ENTRY = "action_mask"
"""Of a Dict observation."""
INFO_NAMES = (ENTRY, "legal_action_mask")
"""Entries of the info; the second is that of EnvPool's PGX."""
METHOD = "action_masks"
"""Of a Gymnasium environment, without arguments."""
OBSERVED = f"observation['{ENTRY}']"
OFF = "set env.action_mask=off"
FIX = f"mend the environment, or {OFF}"


def is_wanted(env: EnvConfig) -> bool:
    """Return whether masks are looked for."""
    return env.action_mask == "auto"


def as_trained(env: EnvConfig, *, masked: bool) -> EnvConfig:
    """Return `env` as a policy plays it that was trained with masks, or without: then none is looked for."""
    return env if masked else replace(env, action_mask="off")


def is_observed(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> bool:
    """Return whether the mask is an entry of the observation, and the actions can be masked."""
    return has_entry(observation_space) and bool(choice_sizes(action_space))


def chosen_space(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space that a masked policy chooses from.

    It is one choice among combinations where the mask in the observation has a flag for each of them, and their number
    is not also that of all components' values.
    """
    sizes = choice_sizes(action_space)
    size = _size_of_entry(observation_space) if is_observed(observation_space, action_space) else 0
    if size == math.prod(sizes) != sum(sizes):
        assert isinstance(action_space, spaces.Box | spaces.MultiDiscrete), action_space
        return Combinations(action_space)
    return with_choices(action_space)


def _size_of_entry(observation_space: spaces.Space[Any]) -> int:
    """Return how many numbers the mask in the observation has; 0 where it is of another kind."""
    assert isinstance(observation_space, spaces.Dict)
    entry = observation_space.spaces[ENTRY]
    return math.prod(entry.shape) if isinstance(entry, spaces.Box | spaces.MultiBinary) else 0


def has_entry(observation_space: spaces.Space[Any]) -> bool:
    """Return whether an observation has an entry of this name, whatever the actions are."""
    return isinstance(observation_space, spaces.Dict) and ENTRY in observation_space.spaces


def network_space(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space of what a masked policy's networks see: the observation without its mask.

    Raises:
        ConfigError: the mask has another size than the actions, or is all there is.
    """
    if not is_observed(observation_space, action_space):
        return observation_space
    assert isinstance(observation_space, spaces.Dict)
    sizes = choice_sizes(action_space)
    if _size_of_entry(observation_space) not in (sum(sizes), math.prod(sizes)):
        entry = observation_space.spaces[ENTRY]
        either = f", or {math.prod(sizes)} for every combination" if len(sizes) > 1 else ""
        raise ConfigError(f"env.action_mask=auto: {OBSERVED} is {entry}, and {_wanted(action_space)}{either}; {FIX}")
    others = {key: part for key, part in observation_space.spaces.items() if key != ENTRY}
    if not others:
        raise ConfigError(
            f"env.action_mask=auto: the observation holds {ENTRY} alone, which is no input of a network; add what the "
            "policy is to see, or set env.action_mask=off"
        )
    return spaces.Dict(others)


def as_flags(numbers: NDArray[Any]) -> Flags:
    """Return numbers as flags, in their shape.

    Raises:
        ValueError: one is negative or not finite, as in a mask that is added to logits; the message says which.
    """
    if numbers.dtype == np.bool_:
        return numbers
    strange = numbers[~((numbers >= 0) & np.isfinite(numbers))]
    if strange.size:
        raise ValueError(f"with {strange.flat[0]}; a mask has 1 for what is allowed and 0 for what is not")
    return np.asarray(numbers != 0, dtype=np.bool_)


def flags_of(mask: Any, action_space: spaces.Space[Any]) -> Flags:
    """Return the flags [A] of a mask: an array of A numbers in any shape, or one array per component.

    Raises:
        ValueError: there are not A of them, or see `as_flags`; the message says what there should be.
    """
    parts = [np.asarray(part) for part in mask] if isinstance(mask, tuple | list) else [np.asarray(mask)]
    flags: NDArray[Any] = np.concatenate([part.reshape(-1) for part in parts] or [np.zeros(0)])
    if flags.dtype.kind not in "biuf":
        raise ValueError(f"of type {type(mask).__name__}, and {_wanted(action_space)} numbers")
    sizes = choice_sizes(action_space)
    if len(flags) != sum(sizes):
        combined = "; one over combinations must be an entry of the observation" * (len(flags) == math.prod(sizes))
        raise ValueError(f"of {len(flags)} numbers, and {_wanted(action_space)}{combined}")
    lengths = tuple(part.size for part in parts)
    if len(parts) == len(sizes) and all(part.ndim for part in parts) and lengths != sizes:
        raise ValueError(f"in parts of {list(lengths)} numbers, and the components have {list(sizes)} values")
    return as_flags(flags)


def late_mask(info: dict[str, Any]) -> str | None:
    """Return what is wrong where a step gives a mask and the reset gave none; None where it gives none, either."""
    found = next((name for name in INFO_NAMES if name in info), None)
    return found and f"gave info['{found}'] and none at the reset; give it at every reset, too, or {OFF}"


def _wanted(action_space: spaces.Space[Any]) -> str:
    return f"a mask of {action_space} has {sum(choice_sizes(action_space))}"


def without_choice(masks: Flags, sizes: tuple[int, ...]) -> Flags:
    """Return [N], where a component of the action has no allowed value in `masks` [N, A]."""
    starts = np.cumsum((0, *sizes[:-1]))
    return np.asarray(~np.logical_or.reduceat(masks, starts, axis=1).all(axis=1))


def open_where_empty(
    masks: Flags, may_be_empty: Flags, sizes: tuple[int, ...], who: str, first_index: int, steps: NDArray[np.int64]
) -> Flags:
    """Return masks [N, A] under which every environment has an action.

    Args:
        may_be_empty: [N] where they may allow none, as after an episode's end, where the next action is never taken.
        who: the environment's id. first_index: of the first of the N environments. steps: [N] the last one of each.

    Raises:
        EnvError: another environment allows no action.
    """
    empty = without_choice(masks, sizes)
    if not empty.any():
        return masks
    stuck = np.flatnonzero(empty & ~may_be_empty)
    if len(stuck):
        what = "no action" if len(sizes) == 1 else "no value of one component of the action"
        raise EnvError(
            f"{who}: environment {first_index + stuck[0]} allows {what} after its step {steps[stuck[0]]}; {FIX}"
        )
    masks = masks.copy()
    masks[empty] = True
    return masks


def note_on_masks(env_id: str, source: str, masks: Flags | None, action_space: spaces.Space[Any]) -> str | None:
    """Return a line on the mask that was found in `source`; None where none was.

    Args:
        masks: the first ones; None where the actions cannot be masked. action_space: that the policy chooses from.
    """
    if not source:
        return None
    if masks is not None:
        among = ""
        if isinstance(action_space, Combinations):
            among = f", which is over combinations: an action is one of {action_space.n}"
        return f"{env_id}: actions that the environment does not allow are never taken, by the mask in {source}{among}"
    return (
        f"{env_id}: the mask in {source} is not used, since the actions are {action_space}; masks are for Discrete and "
        "MultiDiscrete actions, and for a Box of few whole numbers"
    )


def note_on_other_name(
    env_id: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> str | None:
    """Return a line on an entry of the observation that looks like a mask, but is called otherwise; None without one.

    Args:
        action_space: of the environment.
    """
    sizes = choice_sizes(action_space)
    if not sizes or not isinstance(observation_space, spaces.Dict) or has_entry(observation_space):
        return None
    for name, part in observation_space.spaces.items():
        size = math.prod(part.shape) if isinstance(part, spaces.Box | spaces.MultiBinary) else 0
        if nearest(name, [ENTRY]) and size in (sum(sizes), math.prod(sizes)):
            return f"{env_id}: observation['{name}'] is an input of the network; if it is a mask, call it {ENTRY}"
    return None
