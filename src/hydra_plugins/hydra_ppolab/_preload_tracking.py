"""What runs import besides `_preload` when they are tracked."""

from ppolab.tracking.store import import_mlflow

import_mlflow()
