"""Print the pages of a store's experiments, and start MLflow's UI: `python -m ppolab.records.tracking.ui`."""

from __future__ import annotations

import os
import sys

from ppolab.errors import PpolabError
from ppolab.records.run_folder import OUTPUTS
from ppolab.records.tracking.links import HOST, PORT, experiment_links
from ppolab.records.tracking.uri import resolve_tracking_uri

EMPTY = "Default"
"""The experiment that MLflow makes in every new store."""
QUICK = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""MLflow's server without the processes that evaluate language models: it answers in less than half the time."""


def ui_lines(tracking_uri: str) -> list[str]:
    """Return a line with the address of each experiment; raise TrackingError if there is no such store."""
    links = {name: link for name, link in experiment_links(tracking_uri).items() if name != EMPTY}
    width = max(map(len, links), default=0)
    return [f"open  {name:<{width}}  {link}" for name, link in links.items()] or ["the store has no experiment yet"]


def main() -> int:
    """Print the addresses, then become MLflow's UI; return an exit code where there is none to start."""
    try:
        uri = resolve_tracking_uri(None, OUTPUTS, "MLFLOW_TRACKING_URI")
        lines = ui_lines(uri)
    except PpolabError as error:
        print(f"ppolab: {error}; train first, or set MLFLOW_TRACKING_URI", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines), flush=True)
    if not uri.startswith(("http://", "https://")):
        arguments = ["ui", "--workers", "1", "--backend-store-uri", uri, "--host", HOST, "--port", str(PORT)]
        os.environ |= {name: value for name, value in QUICK.items() if name not in os.environ}
        os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main())
