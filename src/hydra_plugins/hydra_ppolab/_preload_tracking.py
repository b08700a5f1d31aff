"""Import what runs need besides `_preload` when they are tracked."""

from ppolab.records.tracking.client import import_mlflow
from ppolab.runtime.fast_imports import lean_mlflow

with lean_mlflow():
    import_mlflow()
