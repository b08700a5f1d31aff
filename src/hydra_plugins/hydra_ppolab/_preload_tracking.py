"""Import what runs need besides `_preload` when they are tracked."""

from ppolab.records.tracking.client import import_mlflow

import_mlflow()
