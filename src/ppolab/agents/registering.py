"""Register the policy of a tracked run in MLflow."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from ppolab.agents.agent import Agent
from ppolab.agents.export import metadata
from ppolab.agents.policy_module import ACTION, MASK, NEXT_STATE, OBSERVATION, STATE, port_names
from ppolab.agents.trained_policy import TrainedPolicy
from ppolab.config.loading import from_yaml
from ppolab.config.recorded import recorded_settings
from ppolab.envs.action_masks import ENTRY, is_observed
from ppolab.envs.spaces import of_parts, parts_of, stacked
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import OUTPUTS, FoundRun
from ppolab.records.tracking import (
    KIND_TAG,
    PolicyModel,
    RunDescription,
    environment_tags,
    record_run,
    register_policy,
    resolve_tracking_uri,
)
from ppolab.records.wording import shown
from ppolab.redaction import redact

_IN_TAGS = ("environment", "checkpoint", "steps", "run_id", "version.ppolab")


def store_of(run: FoundRun) -> str:
    """Return the address of the store that a run's configuration names, or that commands here use.

    Raises:
        ConfigError: it is no address of a store, or its password is missing.
    """
    config = from_yaml(run.folder.config.read_text())
    recorded = run.folder.tracking_uri()
    return resolve_tracking_uri(recorded or config.logger.tracking_uri, OUTPUTS)


def register(trained: TrainedPolicy, onnx: Path, name: str, uri: str) -> str:
    """Register the exported policy in the file `onnx`, and return the version that it has in the registry.

    A run that the store does not know, since it was away or not wanted, is recorded there first, without its metrics.

    Args:
        uri: of the store that holds the run.

    Raises:
        TrackingError: see `register_policy`.
    """
    config, run_id = trained.config, trained.run.folder.run_id() or _recorded(trained, uri)
    space = copy.deepcopy(trained.observation_space)
    space.seed(0)
    observations = stacked([space.sample()], space)
    seen = trained.seen_space
    example = _named(OBSERVATION, of_parts(parts_of(observations, seen), seen), seen)
    given = None
    if trained.policy.masked:
        example[MASK] = given = np.ones((1, trained.policy.distribution.parameter_size), dtype=np.bool_)
        if is_observed(space, trained.action_space):
            observations, given = {**observations, ENTRY: np.ones_like(observations[ENTRY])}, None
    agent = Agent(trained)
    actions = _named(ACTION, agent.act(observations, action_mask=given), trained.action_space)
    if agent.state is not None:
        example[STATE], actions[NEXT_STATE] = np.zeros_like(agent.state), agent.state
    best = load_checkpoint(trained.run.checkpoint).best_return
    facts = metadata(trained)
    tags = {key: facts[key] for key in _IN_TAGS if key in facts} | ({} if best is None else {"eval_return": str(best)})
    reached = "" if best is None else f" It reached an eval/return of {shown(best)}."
    model = PolicyModel(
        onnx=onnx,
        name=name,
        run_id=run_id,
        example=example,
        actions=actions,
        tags=tags,
        description=f"The {facts['checkpoint']} policy of {config.env.id} after {trained.steps:,} steps.{reached}",
    )
    return register_policy(uri, model)


def _named(what: str, batch: Any, space: Space[Any]) -> dict[str, NDArray[Any]]:
    return dict(zip(port_names(what, space), parts_of(batch, space), strict=True))


def _recorded(trained: TrainedPolicy, uri: str) -> str:
    """Record the run in the store, and return the id that it has there; its folder knows it from now on."""
    config, folder = trained.config, trained.run.folder
    run = RunDescription(
        experiment=config.logger.experiment,
        run_name=config.logger.run_name or f"{config.env.id}-seed{config.seed}",
        parameters=recorded_settings(config),
        tags={KIND_TAG: "run"} | environment_tags(),
    )
    run_id = record_run(uri, run)
    folder.write_record(run_id, redact(uri), finished=folder.is_finished)
    return run_id
