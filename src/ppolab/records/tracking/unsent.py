"""Keep in a run's folder what its store may still lack, until it has everything; a sweep's next command sends it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ppolab.errors import ConfigError
from ppolab.records.run_folder import RunFolder, locked, write_whole
from ppolab.records.tracking.operations import Artifact, Finish, RunDescription

log = logging.getLogger(__name__)

UNSENT, LOCK = "unsent_records.json", ".unsent_records.lock"


@dataclass(frozen=True)
class Unsent:
    """Hold the records of a run that has ended, apart from the metrics that the folder has.

    Attributes:
        run: its `tried_at` says when the run began. tags: those that were set during the run.
        metrics: (step, values) that no file has.
    """

    run: RunDescription
    tags: dict[str, str]
    artifacts: tuple[Artifact, ...]
    finish: Finish
    metrics: tuple[tuple[int, dict[str, float]], ...] = ()

    def write(self, folder: Path) -> None:
        """Write them into the run's folder, without credentials."""
        content = asdict(self)
        content["run"] |= {"parameters": self.run.stored_parameters(), "tags": self.run.stored_tags()}
        write_whole(folder / UNSENT, json.dumps(content) + "\n")


def read_unsent(folder: Path) -> Unsent | None:
    """Return what the store may lack of the run in `folder`, under the id that it has there; None: nothing."""
    try:
        content = json.loads((folder / UNSENT).read_text(encoding="utf-8"))
        run = RunDescription(**content["run"])
        artifacts = tuple(Artifact(**each) for each in content["artifacts"])
        metrics = tuple((int(step), values) for step, values in content.get("metrics", ()))
        unsent = Unsent(run, content["tags"], artifacts, Finish(**content["finish"]), metrics)
    except (OSError, ValueError, TypeError, KeyError):  # nothing, or damaged
        return None
    return replace(unsent, run=replace(run, resume_run_id=RunFolder(folder).run_id() or run.resume_run_id))


def unsent_runs(study: Path) -> list[Path]:
    """Return the folders of the runs of a study of which the store may lack something."""
    return sorted(path.parent for path in study.glob(f"*/{UNSENT}"))


def forget(folder: Path) -> None:
    """Note that the store has everything of the run in `folder`, which goes where it holds nothing else."""
    for name in (UNSENT, LOCK, RunFolder(folder).backlog.name):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # it is not empty
        folder.rmdir()


@contextmanager
def sent_by_us(folder: Path) -> Iterator[bool]:
    """Keep other processes from sending the records of the run in `folder`; False where another one sends them."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, "another process sends the records of this run", LOCK))
        except ConfigError:
            yield False
            return
        except OSError as error:  # a full disk, for one
            log.debug("%s: cannot be locked (%s)", folder, error)
        yield True
