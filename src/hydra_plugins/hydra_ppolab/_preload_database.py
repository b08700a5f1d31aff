"""Import what runs need besides `_preload` when their tracking store is a database, and not a server."""

from ppolab.records.tracking.client import import_mlflow_database

import_mlflow_database()
