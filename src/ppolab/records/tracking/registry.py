"""Put an exported policy into MLflow's model registry, as a model that needs neither ppolab nor PyTorch."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ppolab.errors import TrackingError
from ppolab.records.tracking.client import connect
from ppolab.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.types import Schema

_LOADER = Path(__file__).with_name("served_policy.py")
_PACKAGES = ("mlflow", "numpy", "onnxruntime")
"""What playing the model needs."""


@dataclass(frozen=True)
class PolicyModel:
    """A policy as it is registered.

    Attributes:
        onnx: the file. name: of the registered model. run_id: the run that trained it.
        example: a batch of observations by the names of the inputs.
        actions: the policy's answer to it, by the names of the outputs.
        tags: of the version; with `steps` and `checkpoint`, by which a version is known again.
        description: of the version, for people.
    """

    onnx: Path
    name: str
    run_id: str
    example: Mapping[str, NDArray[Any]]
    actions: Mapping[str, NDArray[Any]]
    tags: Mapping[str, str]
    description: str


def register_policy(uri: str, model: PolicyModel) -> str:
    """Return the version under which the registry of the store `uri` holds the policy; a second call makes no second.

    Raises:
        TrackingError: the store does not answer, has no such run, or refuses the model.
    """
    try:
        client = connect(uri)
        run = client.get_run(model.run_id)
        if found := _registered(client, model):
            return str(found.version)
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "policy"
            _save(model, saved)
            logged = client.create_logged_model(
                run.info.experiment_id, "policy", model.run_id, dict(model.tags), model_type="policy"
            )
            client.log_model_artifacts(logged.model_id, str(saved))
        client.finalize_logged_model(logged.model_id, "READY")
        _make_name(client, model.name)
        made = client.create_model_version(
            model.name, logged.artifact_location, model.run_id, dict(model.tags), description=model.description,
            model_id=logged.model_id,
        )  # fmt: skip
        return str(made.version)
    except Exception as error:
        # Not chained: the original text may hold the credentials of the URI.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TrackingError(redact(f"cannot register {model.name} in {uri}: {reason}")) from None


def _registered(client: MlflowClient, model: PolicyModel) -> ModelVersion | None:
    for found in client.search_model_versions(f"run_id = '{model.run_id}'"):
        same = all(found.tags.get(key) == model.tags[key] for key in ("steps", "checkpoint"))
        if found.name == model.name and same:
            return found
    return None


def _make_name(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _save(model: PolicyModel, folder: Path) -> None:
    """Write the folder of an MLflow model of pyfunc flavour."""
    observation = model.example.get("observation") if len(model.example) == 1 else None  # None: several inputs
    with _quiet(), tempfile.TemporaryDirectory() as code:
        import mlflow.pyfunc  # which warns, too
        from mlflow.models import ModelSignature

        loader = Path(code) / "ppolab_served_policy.py"  # a module of its own name among others
        shutil.copyfile(_LOADER, loader)
        mlflow.pyfunc.save_model(
            path=str(folder),
            loader_module=loader.stem,
            data_path=str(model.onnx),
            code_paths=[str(loader)],
            signature=ModelSignature(_schema(model.example), _schema(model.actions)),
            input_example=dict(model.example) if observation is None else observation,
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in _PACKAGES],
        )


def _schema(values: Mapping[str, NDArray[Any]]) -> Schema:
    """Return types and shapes, the first axis free; a value that is alone has no name."""
    from mlflow.types import Schema, TensorSpec

    alone = len(values) == 1 and not any("." in name for name in values)
    return Schema(
        [TensorSpec(value.dtype, (-1, *value.shape[1:]), None if alone else name) for name, value in values.items()]
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's notices about a model that is being saved from the terminal."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
