"""Export a trained policy as one file that is played without ppolab."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import create_empty_array
from numpy.typing import NDArray
from torch import nn
from torch.export import Dim, ExportedProgram

import ppolab
from ppolab.agents.export_check import OBSERVATIONS, Play, compare
from ppolab.agents.export_formats import FILE_NAMES, check_packages
from ppolab.agents.policy_module import (
    ACTION,
    MASK,
    NEXT_STATE,
    OBSERVATION,
    STATE,
    PolicyModule,
    as_tensors,
    port_names,
)
from ppolab.agents.trained_policy import TrainedPolicy
from ppolab.envs.factory import action_mapping
from ppolab.envs.spaces import of_parts, parts_of
from ppolab.errors import ConfigError, ExportError

FORMAT = 1
"""Version of the names of inputs, output and metadata."""


@dataclass(frozen=True)
class ExportResult:
    """What an export has written.

    Attributes:
        greatest_difference: between an action of the policy and one of the file, over the compared observations.
        observations: how many were compared. seconds: of the export, comparing included.
    """

    path: Path
    greatest_difference: float
    observations: int
    seconds: float


@dataclass(frozen=True)
class _Written:
    """A policy in a format: how it plays, and how it becomes a file with metadata."""

    play: Play
    save: Callable[[dict[str, str], Path], None]


def export_policy(
    trained: TrainedPolicy, export_format: str, path: Path, say: Callable[[str], None] = lambda _: None
) -> ExportResult:
    """Write the policy to `path`, after comparing it with `trained` on 1,000 observations of its environment.

    Args:
        export_format: `onnx` or `torch_export`; `mlflow` is the ONNX file that a registered model holds.
        say: is told what begins, and how far it is; with images it takes minutes.

    Raises:
        ConfigError: packages of the format are not installed, or `path` cannot be written.
        ExportError: the format cannot hold the policy, or the exported policy acts otherwise. Nothing is left then.
    """
    check_packages(f"format={export_format}", export_format)
    if path.is_dir():
        raise ConfigError(f"path={path}: is a folder; name a file in it, such as {path / FILE_NAMES[export_format]}")
    started = time.perf_counter()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # what cannot be written is told before the work
        say(f"writing       {path}")
        written = _WRITERS[export_format](trained)
        say(f"comparing     on {OBSERVATIONS:,} observations of {trained.env.id}")
        found = compare(trained, written.play, say=say)
        measured = {
            "greatest_difference": repr(found.greatest_difference),
            "compared_observations": str(found.observations),
        }
        written.save(metadata(trained) | measured, temporary)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"path={path}: cannot be written: {error.strerror or error}; choose another path") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return ExportResult(path, found.greatest_difference, found.observations, time.perf_counter() - started)


def metadata(trained: TrainedPolicy) -> dict[str, str]:
    """Return what a file says about its policy: environment, spaces, origin and versions."""
    config, run = trained.config, trained.run
    further = _further_inputs(trained, 1)
    state = {"state_shape": json.dumps(further[STATE].shape[1:])} if STATE in further else {}
    return {
        "format": str(FORMAT),
        "environment": config.env.id,
        "environment_kwargs": json.dumps(config.env.kwargs),
        "observation_space": json.dumps(described(trained.observation_space)),
        "action_space": json.dumps(described(trained.action_space)),
        **({"action_mask": str(trained.policy.distribution.parameter_size)} if trained.policy.masked else {}),
        "run_id": run.folder.run_id() or "",
        "checkpoint": run.checkpoint.stem,
        "steps": str(trained.steps),
        "version.ppolab": ppolab.__version__,
        "version.torch": importlib.metadata.version("torch"),
        **state,
    }


def described(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return a space as values that JSON holds; infinite bounds as "inf" and "-inf"."""
    kind = {"type": "Box" if isinstance(space, spaces.Box) else type(space).__name__}
    if isinstance(space, spaces.Dict):
        return {**kind, "spaces": {key: described(part) for key, part in space.spaces.items()}}
    if isinstance(space, spaces.Tuple):
        return {**kind, "spaces": [described(part) for part in space.spaces]}
    shared = {**kind, "shape": list(space.shape or ()), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Box):
        return {**shared, "low": _numbers(space.low), "high": _numbers(space.high)}
    if isinstance(space, spaces.Discrete):
        return {**shared, "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {**shared, "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    return shared


def _numbers(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return [_numbers(value) for value in values] if values.ndim else _numbers(values.item())
    number = values.item() if isinstance(values, np.generic) else values
    return str(number) if isinstance(number, float) and not np.isfinite(number) else number


# --- torch.export ----------------------------------------------------------------------------------------------------


def _program(trained: TrainedPolicy) -> ExportedProgram:
    module = PolicyModule(trained.policy, trained.seen_space, trained.policy_space, action_mapping(trained.config.env))
    with _silenced():
        try:
            further = _tensors(_further_inputs(trained, 2))
            return torch.export.export(module, _example(trained), further, dynamic_shapes=_free_batch(trained))
        except Exception as error:  # the network may be a user's, and the compiler has families of its own
            raise ExportError(f"torch.export cannot hold the network: {_reason(error)}") from error


def _example(trained: TrainedPolicy) -> tuple[Any, ...]:
    """Return the observations of a batch of two: a batch of one would fix the size to one."""
    return (_seen(trained, create_empty_array(_input_space(trained), 2)),)


def _further_inputs(trained: TrainedPolicy, count: int) -> dict[str, NDArray[Any]]:
    """Return, by their names, what a policy takes beside observations: all is allowed, and an episode begins."""
    further: dict[str, NDArray[Any]] = {}
    if trained.policy.masked:
        further[MASK] = np.ones((count, trained.policy.distribution.parameter_size), dtype=np.bool_)
    if trained.policy.has_memory:
        states = trained.policy.no_memories(count, actor_alone=True).transpose(0, 1)
        further[STATE] = states.contiguous().numpy()
    return further


def _given(masks: NDArray[np.bool_] | None, states: NDArray[np.float32] | None) -> dict[str, NDArray[Any]]:
    return {name: values for name, values in ((MASK, masks), (STATE, states)) if values is not None}


def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def _input_space(trained: TrainedPolicy) -> spaces.Space[Any]:
    """Return the space of what the network sees, with keys in the environment's order: `torch.export` fixes it."""
    return _in_order_of(trained.seen_space, trained.observation_space)


def _in_order_of(seen: spaces.Space[Any], observed: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return `seen` with the keys in the order of `observed`; what a mask was taken out of had been sorted."""
    if not (isinstance(seen, spaces.Dict) and isinstance(observed, spaces.Dict)):
        return seen
    return spaces.Dict([(key, seen[key]) for key in observed.spaces if key in seen.spaces])


def _seen(trained: TrainedPolicy, batch: Any) -> Any:
    """Return what the network sees of a batch of observations as the environment gives them."""
    space = _input_space(trained)
    return as_tensors(of_parts(parts_of(batch, space), space))


def _free_batch(trained: TrainedPolicy) -> dict[str, Any]:
    """Return the `dynamic_shapes` that leave the size of a batch open; one axis for all inputs."""
    axis = {0: Dim("batch")}

    def of(space: spaces.Space[Any]) -> Any:
        if isinstance(space, spaces.Dict):
            return {key: of(part) for key, part in space.spaces.items()}
        return tuple(map(of, space.spaces)) if isinstance(space, spaces.Tuple) else axis

    return {"observation": of(_input_space(trained))} | dict.fromkeys(_further_inputs(trained, 1), axis)


def _as_torch_export(trained: TrainedPolicy) -> _Written:
    program = _program(trained)
    saved = io.BytesIO()
    with _silenced():
        torch.export.save(program, saved)
        saved.seek(0)
        module: nn.Module = torch.export.load(saved).module()

    def play(
        batch: Any, masks: NDArray[np.bool_] | None, states: NDArray[np.float32] | None
    ) -> tuple[Any, NDArray[np.float32] | None]:
        with torch.no_grad():
            answer = module(_seen(trained, batch), **_tensors(_given(masks, states)))
        actions, after = (answer, None) if states is None else answer
        parts = (part.numpy() for part in parts_of(actions, trained.action_space))
        return of_parts(parts, trained.action_space), None if after is None else after.numpy()

    def save(facts: dict[str, str], path: Path) -> None:
        with _silenced(), path.open("wb") as file:
            torch.export.save(program, file, extra_files={"metadata.json": json.dumps(facts)})

    return _Written(play, save)


# --- ONNX ------------------------------------------------------------------------------------------------------------


def _as_onnx(trained: TrainedPolicy) -> _Written:
    import onnx
    import onnxruntime

    names = _names(OBSERVATION, _input_space(trained))
    answers = _names(ACTION, trained.action_space)
    names += _further_inputs(trained, 1)
    if trained.policy.has_memory:
        answers = [*answers, NEXT_STATE]
    model = _onnx_model(trained, names, answers)
    try:
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # what onnxruntime lacks, it says in errors of its own
        raise ExportError(f"ONNX cannot hold the network: {_reason(error)}") from error

    def play(
        batch: Any, masks: NDArray[np.bool_] | None, states: NDArray[np.float32] | None
    ) -> tuple[Any, NDArray[np.float32] | None]:
        inputs = dict(zip(names, parts_of(batch, _input_space(trained)), strict=False)) | _given(masks, states)
        parts = session.run(answers, inputs)
        after = None if states is None else parts.pop()
        return of_parts(iter(parts), trained.action_space), after

    def save(facts: dict[str, str], path: Path) -> None:
        onnx.helper.set_model_props(model, facts)
        path.write_bytes(model.SerializeToString())

    return _Written(play, save)


def _names(what: str, space: spaces.Space[Any]) -> list[str]:
    names = port_names(what, space)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ExportError(f"two parts of the {what} are both called {min(twice)}; rename a key that has a dot")
    return names


def _onnx_model(trained: TrainedPolicy, names: list[str], answers: list[str]) -> Any:
    program = _program(trained)
    with _silenced():
        try:
            converted = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=answers,
                dynamic_shapes=_free_batch(trained),  # again: the program has lost the name of the axis
            )
        except Exception as error:  # torch.onnx wraps what its parts raise, in several classes
            raise ExportError(f"ONNX cannot hold the network: {_reason(error)}; format=torch_export may") from error
    assert converted is not None
    return converted.model_proto


def _reason(error: BaseException) -> str:
    """Return the operator that an error names, else the first line that says something; of its innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error)
    if operator := re.search(r"op='([\w.:]+)'", text):
        return f"there is no operator for {operator[1]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep what PyTorch's exporters print about themselves from the terminal."""
    exporters = logging.getLogger("torch.onnx")
    level = exporters.level
    exporters.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporters.setLevel(level)


_WRITERS: dict[str, Callable[[TrainedPolicy], _Written]] = {
    "onnx": _as_onnx,
    "torch_export": _as_torch_export,
    "mlflow": _as_onnx,
}
