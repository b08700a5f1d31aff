"""Register the policy of a tracked run in MLflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gymnasium.vector.utils import create_empty_array

from ppolab.agents.export import metadata
from ppolab.agents.export_check import policy_player
from ppolab.agents.policy_module import named_parts, parts_of
from ppolab.agents.trained_policy import TrainedPolicy
from ppolab.errors import ConfigError
from ppolab.records.checkpoint import load_checkpoint
from ppolab.records.run_folder import OUTPUTS
from ppolab.records.tracking import PolicyModel, register_policy, resolve_tracking_uri
from ppolab.records.wording import shown

_IN_TAGS = ("environment", "checkpoint", "steps", "run_id", "version.ppolab")


def register(trained: TrainedPolicy, onnx: Path, name: str, uri: str | None = None) -> str:
    """Register the exported policy in the file `onnx`, and return the version that it has in the registry.

    Args:
        uri: of the store that holds the run; None: the one that its configuration names.

    Raises:
        ConfigError: the run is not tracked. TrackingError: see `register_policy`.
    """
    config, run_id = trained.config, trained.run.folder.run_id()
    if run_id is None:
        raise ConfigError(f"run={trained.run.folder.path}: is not in MLflow, which registers models of its runs only")
    space = trained.observation_space
    zeros = create_empty_array(space, 1)
    inputs = [np.asarray(values) for values in parts_of(zeros, space)]
    example = dict(zip([name for name, _ in named_parts(space)], inputs, strict=True))
    best = load_checkpoint(trained.run.checkpoint).best_return
    facts = metadata(trained)
    tags = {key: facts[key] for key in _IN_TAGS if key in facts} | ({} if best is None else {"eval_return": str(best)})
    reached = "" if best is None else f" It reached an eval/return of {shown(best)}."
    model = PolicyModel(
        onnx=onnx,
        name=name,
        run_id=run_id,
        example=example,
        actions=policy_player(trained)(zeros),
        tags=tags,
        description=f"The {facts['checkpoint']} policy of {config.env.id} after {trained.steps:,} steps.{reached}",
    )
    return register_policy(uri or resolve_tracking_uri(config.logger.tracking_uri, OUTPUTS), model)
