"""Import what runs need besides `_preload` when they are tracked."""

from ppolab.records.tracking.mlflow_store import import_mlflow

import_mlflow()
