"""Import what runs need besides `_preload` when their tracking store is a database, and not a server."""

from ppolab.records.tracking.client import import_mlflow_database
from ppolab.runtime.fast_imports import lean_mlflow

with lean_mlflow():
    import_mlflow_database()
