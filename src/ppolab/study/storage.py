"""Open the storage of a study: one file on this machine, or an SQL database that several machines share."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock  # the base class of the locks it takes

from ppolab.errors import ConfigError
from ppolab.records.tracking import redact

HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
"""A trial of another machine is run again after so long without a sign of life."""


class JournalLock(BaseJournalFileLock):
    """Lock a journal, and drop a record that a killed process has left half-written.

    The operating system releases this lock when its holder dies. Optuna's own locks are files, which a killed process
    leaves behind for half a minute.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        self._drop_half_a_line()
        return True

    def release(self) -> None:
        self._lock.release()

    def _drop_half_a_line(self) -> None:
        """Cut off a last record without its line end; the next record would be joined to it."""
        with self._journal.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                return
            file.seek(size - 1)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


@dataclass(frozen=True)
class StudyStorage:
    """Hold Optuna's storage of one study.

    Attributes:
        url: of the storage, or the path of its file.
        lock: makes a lock that one process or machine holds at a time; it is released when its holder dies.
        record_lock: makes another one, for the study's run in the tracking store; any thread may release it.
    """

    optuna: BaseStorage
    url: str
    lock: Callable[[], AbstractContextManager[object]]
    record_lock: Callable[[], AbstractContextManager[object]]

    @property
    def has_heartbeat(self) -> bool:
        """Return whether processes of other machines can be seen to be alive."""
        return isinstance(self.optuna, RDBStorage)


def open_storage(url: str | None, name: str, folder: Path) -> StudyStorage:
    """Return the storage at `url` (postgresql://..., sqlite:///...), or the file of the study `name` in `folder`.

    Raises:
        ConfigError: it cannot be reached, or is of a kind that cannot be shared safely.
    """
    if url is None:
        folder.mkdir(parents=True, exist_ok=True)
        return _journal(folder / f"{name}.journal")
    kind = url.partition(":")[0].partition("+")[0]
    if kind == "sqlite":
        if not url.partition("///")[2]:
            raise ConfigError(f"storage={url}: is in memory, and would be gone with this process; use sqlite:///FILE")
        file = Path(url.partition("///")[2]).absolute()
        if not file.parent.is_dir():
            raise ConfigError(f"storage={url}: cannot be opened, since there is no folder {file.parent}; make it first")
        return _sql(url, lambda: FileLock(f"{file}.lock"), lambda: _of_all_threads(f"{file}.record"))
    if kind == "postgresql":
        return _sql(url, lambda: _postgresql_lock(url, "study"), lambda: _postgresql_lock(url, "study record"))
    raise ConfigError(
        f"storage={redact(url)}: ppolab keeps studies in a file (storage=null), in sqlite:///FILE or in "
        "postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE"
    )


def _journal(path: Path) -> StudyStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalLock(path)))
    return StudyStorage(
        storage, str(path), lambda: FileLock(f"{path}.claim"), lambda: _of_all_threads(f"{path}.record")
    )


def _of_all_threads(path: str) -> FileLock:
    return FileLock(path, thread_local=False)


def _sql(
    url: str,
    lock: Callable[[], AbstractContextManager[object]],
    record_lock: Callable[[], AbstractContextManager[object]],
) -> StudyStorage:
    kind = url.partition(":")[0].partition("+")[0]
    try:
        with lock(), warnings.catch_warnings():  # Optuna makes its tables here, and two at a time would fail
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = RDBStorage(url, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS)
    except ImportError as error:
        raise ConfigError(f"storage={redact(url)}: its driver is missing; pip install psycopg2-binary") from error
    except Exception as error:  # SQLAlchemy and each driver raise families of their own
        told = str(error).strip().splitlines()[0]
        advice = "is it a database that may be written?" if kind == "sqlite" else "is the server up, is the URL right?"
        raise ConfigError(f"storage={redact(url)}: cannot be opened ({told}); {advice}") from error
    return StudyStorage(storage, url, lock, record_lock)


@contextmanager
def _postgresql_lock(url: str, name: str) -> Iterator[None]:
    """Hold an advisory lock; it belongs to its connection, and ends with it."""
    import sqlalchemy

    number = int.from_bytes(hashlib.sha256(f"ppolab {name}".encode()).digest()[:7], "big")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({number})"))
        yield
