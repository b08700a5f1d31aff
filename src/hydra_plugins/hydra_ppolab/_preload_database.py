"""What runs import besides `_preload` when their tracking store is a database, and not a server."""

from ppolab.tracking.store import import_mlflow_database

import_mlflow_database()
