"""Snapshots of Gymnasium environments as plain values and arrays, for an exact resume.

A snapshot holds the attributes of the environment and of every wrapper around it: numbers, texts, arrays, lists, tuples
and dictionaries of them, NumPy generators, and MuJoCo's data. Spaces, specifications, functions, renderers and MuJoCo
models are not part of it: they come with a new environment. An attribute of any other kind may hide a state, so an
environment that has one gives no snapshot; nor does one in which two attributes share an array, a list or a dictionary.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

State = dict[str, Any]

REMADE = (gymnasium.Space, EnvSpec, types.FunctionType, types.MethodType, types.ModuleType, type)
REMADE_BY_NAME = {
    ("mujoco", "MjModel"), ("gymnasium", "MujocoRenderer"), ("pygame", "Surface"), ("pygame", "Clock"),
}  # fmt: skip
"""(package, class): known by name, since this module must not import them."""
KINDS = "iufb"
"""NumPy's kinds of numbers that a checkpoint can hold."""


class NoState(Exception):
    """An attribute may hide a state."""


def captured(env: gymnasium.Env[Any, Any]) -> State | None:
    """Return a snapshot for `restore`; None where the environment does not show its state."""
    seen: set[int] = set()
    try:
        return {str(depth): _attributes(layer, seen) for depth, layer in enumerate(_layers(env))}
    except NoState:
        return None


def restore(env: gymnasium.Env[Any, Any], state: State) -> None:
    """Bring an environment, made in the same way, into the captured state."""
    for depth, layer in enumerate(_layers(env)):
        for name, value in state[str(depth)].items():
            current = layer.__dict__.get(name)
            restored = _decoded(value, current)
            if restored is not current:
                layer.__dict__[name] = restored


def _layers(env: gymnasium.Env[Any, Any]) -> Iterator[gymnasium.Env[Any, Any]]:
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _attributes(layer: gymnasium.Env[Any, Any], seen: set[int]) -> State:
    below = layer.env if isinstance(layer, gymnasium.Wrapper) else None
    attributes = {name: value for name, value in vars(layer).items() if value is not below or below is None}
    return {name: _encoded(value, seen) for name, value in attributes.items() if not _is_remade(value)}


def _is_remade(value: Any) -> bool:
    kind = type(value)
    return isinstance(value, REMADE) or (kind.__module__.partition(".")[0], kind.__name__) in REMADE_BY_NAME


def _encoded(value: Any, seen: set[int]) -> Any:
    if value is None or (isinstance(value, bool | int | float | str) and type(value).__module__ == "builtins"):
        return value
    if isinstance(value, np.generic):
        return {"scalar": _numbers(np.asarray(value))}
    if type(value) is tuple:
        return {"tuple": [_encoded(item, seen) for item in value]}
    owner = _owner(value)
    if id(owner) in seen:
        raise NoState
    seen.add(id(owner))
    if type(value) is np.ndarray:
        return {"array": _numbers(value)}
    if type(value) is list:
        return {"list": [_encoded(item, seen) for item in value]}
    if type(value) is dict:
        return {"dict": [[_encoded(key, seen), _encoded(item, seen)] for key, item in value.items()]}
    if isinstance(value, np.random.Generator):
        return {"generator": _encoded(value.bit_generator.state, set())}  # made for us: its parts are nobody's
    if (type(value).__module__.partition(".")[0], type(value).__name__) == ("mujoco", "MjData"):
        return {"mujoco": _mujoco_bytes(value), "time": float(value.time)}
    raise NoState


def _owner(value: Any) -> Any:
    """Return the array whose memory an array shares; any other value itself."""
    while isinstance(value, np.ndarray) and value.base is not None:
        value = value.base
        if not isinstance(value, np.ndarray):
            raise NoState  # of a simulator
    return value


def _numbers(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in KINDS:
        raise NoState
    return array.copy()


def _mujoco_bytes(data: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([array.reshape(-1).view(np.uint8) for array in _mujoco_arrays(data)])


def _mujoco_arrays(data: Any) -> list[np.ndarray[Any, Any]]:
    """Return the arrays that MuJoCo keeps between steps, with derived quantities: rewards are computed from those.

    Arrays for contacts have no fixed size and are not kept between steps.
    """
    fresh = type(data)(data.model)
    names = [name for name in dir(data) if not name.startswith("_") and isinstance(getattr(fresh, name), np.ndarray)]
    arrays = [(getattr(data, name), getattr(fresh, name)) for name in names]
    return [
        array
        for array, empty in arrays
        if array.dtype.kind in KINDS and array.flags.writeable and array.size and array.shape == empty.shape
    ]


def _decoded(value: Any, current: Any) -> Any:
    """Return the value that `_encoded` encoded; generators and MuJoCo's data are set in place in `current`."""
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()))
    if kind == "scalar":
        return content[()]
    if kind == "array":
        return content.copy()
    if kind in ("list", "tuple"):
        items = [_decoded(item, None) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return {_decoded(key, None): _decoded(item, None) for key, item in content}
    if kind == "generator":
        current.bit_generator.state = _decoded(content, None)
        return current
    assert kind == "mujoco", kind
    current.time = value["time"]
    offset = 0
    for array in _mujoco_arrays(current):
        array.reshape(-1)[:] = content[offset : offset + array.nbytes].view(array.dtype)
        offset += array.nbytes
    assert offset == len(content), "made by another version of MuJoCo, or for another model"
    return current
