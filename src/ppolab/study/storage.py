"""Where a study is kept: one file on this machine, or an SQL database that several machines share."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock  # the base class of the locks it takes

from ppolab.errors import ConfigError

HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
"""A trial of another machine that has not shown a sign of life for so long is run again."""


class JournalLock(BaseJournalFileLock):
    """A lock that the operating system releases when its holder dies, and that mends what the holder left half-written.

    Optuna's own locks are files, which a killed process leaves behind for half a minute.
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
        """A record without its line end was being written when its process was killed; what follows would join it."""
        with self._journal.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                return
            file.seek(size - 1)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


class StudyStorage:
    """Optuna's storage of one study, and a lock over all processes and machines that share it."""

    def __init__(self, optuna: BaseStorage, url: str, lock_file: Path | None) -> None:
        self.optuna = optuna
        self.url = url
        self._lock_file = lock_file

    @property
    def has_heartbeat(self) -> bool:
        """Whether processes of other machines can be seen to be alive."""
        return isinstance(self.optuna, RDBStorage)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by one process at a time; released when it dies."""
        if self._lock_file is not None:
            with FileLock(self._lock_file):
                yield
            return
        assert isinstance(self.optuna, RDBStorage)
        from sqlalchemy import text

        number = int.from_bytes(hashlib.sha256(b"ppolab study").digest()[:7], "big")
        with self.optuna.engine.connect() as connection:  # the lock belongs to the connection, and ends with it
            connection.execute(text(f"SELECT pg_advisory_lock({number})"))
            try:
                yield
            finally:
                connection.execute(text(f"SELECT pg_advisory_unlock({number})"))


def open_storage(url: str | None, name: str, folder: Path) -> StudyStorage:
    """The storage at `url` (postgresql://..., sqlite:///...), or the file of the study `name` in `folder`.

    Raises:
        ConfigError: it cannot be reached, or is of a kind that cannot be shared safely.
    """
    if url is None:
        folder.mkdir(parents=True, exist_ok=True)
        return _journal(folder / f"{name}.journal")
    kind = url.partition(":")[0].partition("+")[0]
    if kind == "sqlite":
        return _sql(url, Path(url.partition("///")[2] + ".lock").absolute())
    if kind == "postgresql":
        return _sql(url, None)
    raise ConfigError(
        f"storage={url}: ppolab keeps studies in a file (storage=null), in sqlite:///FILE or in "
        "postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE"
    )


def _journal(path: Path) -> StudyStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalLock(path)))
    return StudyStorage(storage, str(path), Path(f"{path}.claim"))


def _sql(url: str, lock_file: Path | None) -> StudyStorage:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = RDBStorage(url, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS)
    except ImportError as error:
        raise ConfigError(
            f"storage={public(url)}: a package is missing: {error}; pip install psycopg2-binary"
        ) from error
    except Exception as error:  # SQLAlchemy and each driver raise families of their own
        told = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"storage={public(url)}: cannot be opened ({told}); is the server up, is the URL right?"
        ) from error
    return StudyStorage(storage, url, lock_file)


def public(url: str) -> str:
    """The URL without its password."""
    scheme, separator, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{account.partition(':')[0]}{at}{place}"
