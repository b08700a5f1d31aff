"""Find runs that a store holds, read them, and add to them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ppolab.errors import TrackingError
from ppolab.records.tracking.client import connect, find_run
from ppolab.records.tracking.operations import StoredExperiment, StoredRun
from ppolab.records.tracking.uri import sqlite_path
from ppolab.redaction import redact

if TYPE_CHECKING:
    from mlflow.entities import Run

_CHECKPOINT_FOLDER = "checkpoints"
_CONFIG_FILE = "config.yaml"
_RUNS_PER_PAGE = 1000


class StoreReader:
    """Reads the runs of the store `uri`, and changes nothing there.

    Raises:
        TrackingError: there is no such store, or it does not answer; so do the methods.
    """

    def __init__(self, uri: str) -> None:
        database = sqlite_path(uri)
        if database is not None and not database.exists():
            raise TrackingError(f"there is no tracking store at {database}")
        self._uri = uri
        with self.telling("open"):
            self.client = connect(uri)

    def experiments(self) -> list[str]:
        """The names of all experiments."""
        with self.telling("read the experiments of"):
            return sorted(self._experiments().values())

    def stored_experiments(self) -> list[StoredExperiment]:
        """Return all experiments, by name."""
        with self.telling("read the experiments of"):
            found = sorted(self.client.search_experiments(), key=lambda each: str(each.name))
            return [StoredExperiment(each.experiment_id, each.name, each.tags) for each in found]

    def runs(self, experiment: str | None, tags: Mapping[str, str]) -> list[StoredRun]:
        """The runs of one experiment, or of all, that have these tags; newest first."""
        condition = " and ".join(f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items())
        with self.telling("read the runs of"):
            names = {key: name for key, name in self._experiments().items() if experiment in (None, name)}
            found, token = [], None
            while names:
                page = self.client.search_runs(list(names), condition, max_results=_RUNS_PER_PAGE, page_token=token)
                found += [_stored(run, names[run.info.experiment_id]) for run in page]
                token = page.token
                if not token:
                    break
        return sorted(found, key=lambda run: run.started, reverse=True)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Every (step, value) of a metric, by step; of a step that is there twice, what was logged last."""
        with self.telling(f"read {metric} of run {run_id} from"):
            points = self.client.get_metric_history(run_id, metric)
        return sorted({int(p.step): float(p.value) for p in sorted(points, key=lambda p: p.timestamp)}.items())

    def _experiments(self) -> dict[str, str]:
        return {found.experiment_id: found.name for found in self.client.search_experiments()}

    @contextlib.contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Answer what the store raises inside the block with a TrackingError of one line."""
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            # Not chained: the original text may hold the credentials of the URI.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise TrackingError(redact(f"cannot {what} {self._uri}: {reason}")) from None


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def _stored(run: Run, experiment: str) -> StoredRun:
    pruned = run.data.tags.get("ended") == "pruned"
    return StoredRun(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        experiment=experiment,
        status="PRUNED" if pruned else run.info.status,
        started=int(run.info.start_time or 0),
        parameters=dict(run.data.params),
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
    )


def find_run_artifacts(uri: str, run_id: str, destination: Path) -> Path:
    """Download the artifacts `checkpoints` and `config.yaml` of a run into `destination`; return the first's folder.

    Raises:
        TrackingError: the store does not answer, or holds no such run, or the run has no checkpoints.
    """
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        raise TrackingError(f"no run {run_id}: there is no tracking store at {database}")
    try:
        client = connect(uri)
        if find_run(client, run_id) is None:
            raise TrackingError(f"no run {run_id} in {redact(uri)}")
        if not client.list_artifacts(run_id, _CHECKPOINT_FOLDER):
            raise TrackingError(f"run {run_id} in {redact(uri)} has no artifact folder {_CHECKPOINT_FOLDER}")
        destination.mkdir(parents=True, exist_ok=True)
        if any(file.path == _CONFIG_FILE for file in client.list_artifacts(run_id)):
            client.download_artifacts(run_id, _CONFIG_FILE, str(destination))
        return Path(client.download_artifacts(run_id, _CHECKPOINT_FOLDER, str(destination)))
    except TrackingError:
        raise
    except Exception as error:
        # Not chained: the original text may hold the credentials of the URI.
        raise TrackingError(redact(f"cannot read run {run_id} from {uri}: {error}")) from None


def add_evaluation(uri: str, run_id: str, metrics: Mapping[str, float], step: int, files: Mapping[Path, str]) -> None:
    """Add metrics at `step` environment steps, and files, to a run that may have ended; its status stays as it is.

    Args:
        files: the folder among the run's artifacts that each goes to.

    Raises:
        TrackingError: the store does not answer, or holds no such run.
    """
    reader = StoreReader(uri)
    with reader.telling("add an evaluation to"):
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        reader.client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])
        for path, folder in files.items():
            reader.client.log_artifact(run_id, str(path), folder)


def registered_run(uri: str, name: str, version: str | None, alias: str | None) -> str:
    """Return the id of the run that a version of a registered model was made from.

    Args:
        version, alias: one of them says which version.

    Raises:
        TrackingError: the registry does not answer, or has no such model, version or alias, or the version no run.
    """
    reader = StoreReader(uri)
    with reader.telling("read the registered models of"):
        from mlflow.exceptions import MlflowException

        try:
            model = reader.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = [each.name for each in reader.client.search_registered_models()]
            raise TrackingError(f"there is no model {name} in {redact(uri)}{_having(known)}") from None
        runs = {str(each.version): each.run_id for each in reader.client.search_model_versions(f"name={_quoted(name)}")}
        wanted = version if alias is None else model.aliases.get(alias)
        if wanted is None:
            raise TrackingError(f"the model {name} has no alias {alias}{_having(model.aliases)}")
        if str(wanted) not in runs:
            raise TrackingError(f"the model {name} has no version {wanted}{_having(sorted(runs, key=int))}")
    run_id = runs[str(wanted)]
    if not run_id:
        raise TrackingError(f"version {wanted} of the model {name} comes from no run")
    return str(run_id)


def _having(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"; it has {listed}" if listed else ""


def end_abandoned_runs(uri: str, experiment: str, tags: Mapping[str, str]) -> int:
    """Mark runs with these tags that still look alive as KILLED, because their processes are gone; returns how many.

    Raises:
        TrackingError: the store does not answer.
    """
    condition = " and ".join([f"tags.`{key}` = '{value}'" for key, value in tags.items()])
    try:
        client = connect(uri)
        found = client.get_experiment_by_name(experiment)
        ids = [] if found is None else [found.experiment_id]
        runs = client.search_runs(ids, f"{condition} and attributes.status = 'RUNNING'") if ids else []
        for run in runs:
            client.set_terminated(run.info.run_id, "KILLED")
    except Exception as error:
        raise TrackingError(redact(f"cannot end runs in {uri}: {error}")) from None
    return len(runs)
