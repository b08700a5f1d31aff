"""Resolve the addresses of tracking stores."""

from __future__ import annotations

import os
import shlex
import urllib.parse
from pathlib import Path

from ppolab.errors import ConfigError
from ppolab.redaction import HIDDEN, redact

_SERVERS = ("http", "https", "databricks")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def resolve_tracking_uri(configured: str | None, outputs: Path, key: str = "logger.tracking_uri") -> str:
    """Return the store's URI: `configured`, else MLFLOW_TRACKING_URI, else `mlflow.db` in `outputs`, made absolute.

    A run's files hold `configured` without its password: MLFLOW_TRACKING_URI then stands in for it.

    Args:
        key: the setting that configures it, for the message.

    Raises:
        ConfigError: the URI names no server and no database (MLflow's file store takes no new runs), or its password
            is missing.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if configured and HIDDEN in configured:
        if not given:
            raise ConfigError(
                f"{key}={configured}: its password is kept in no file; give {key}=... again, or set MLFLOW_TRACKING_URI"
            )
        configured = given
    uri = configured or given or _sqlite_uri(outputs.absolute() / "mlflow.db")
    scheme = uri.partition("://")[0]
    if scheme not in _SERVERS and not is_database(uri):
        raise ConfigError(
            f"{key}={redact(uri)}: the tracking store must be a server or a database;"
            " use http://HOST:PORT or sqlite:////PATH/mlflow.db (file stores are no longer supported)"
        )
    database = sqlite_path(uri)
    return uri if database is None else _sqlite_uri(database)


def is_database(uri: str) -> bool:
    """Return whether the store is a database, which MLflow's client opens itself, and not a server."""
    return uri.partition("://")[0].partition("+")[0] in _DATABASES


def ui_command(uri: str) -> str:
    """Return what a user types to look at the runs in the store `uri`; credentials are replaced by ***.

    A file below the current folder is named from there. One worker starts in half the time of MLflow's four.
    """
    if uri.startswith(("http://", "https://")):
        return f"open {redact(uri)}"
    database = sqlite_path(uri)
    if database is not None and database.is_relative_to(Path.cwd()):
        uri = _sqlite_uri(database.relative_to(Path.cwd()))
    return f"mlflow ui --workers 1 --backend-store-uri {shlex.quote(redact(uri))}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a sqlite store; None for any other."""
    scheme, _, rest = uri.partition(":///")
    return Path(urllib.parse.unquote(rest)).absolute() if scheme == "sqlite" and rest else None


def artifact_root(uri: str) -> str | None:
    """Return where an experiment's files go: beside a local database; None lets a server choose."""
    database = sqlite_path(uri)
    return None if database is None else (database.parent / "mlartifacts").as_uri()


def _sqlite_uri(database: Path) -> str:
    # SQLAlchemy decodes %xx in the path and takes ? as the start of options.
    return "sqlite:///" + str(database).replace("%", "%25").replace("?", "%3F")
