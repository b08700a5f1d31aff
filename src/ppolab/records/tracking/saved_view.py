"""The view of an experiment that MLflow's page offers under "Views": returns first, in the table and in the charts.

MLflow keeps a saved view as a tag of the experiment. Without one, its table has no metrics and no parameters, and its
charts come in the order of the alphabet: `train/return` is the seventeenth.
"""

from __future__ import annotations

import json
from typing import Any

VIEW = "ppolab"
"""What the address of the page calls the view."""
TAG = f"mlflow.sharedViewState.{VIEW}"
NAME = "returns"
"""What the page calls it."""
SORTED_BY = "metrics.`eval/return`"
COLUMNS = (SORTED_BY, "metrics.`train/return`", "params.`env.id`", "params.`algorithm.name`", "params.`seed`",
           "params.`total_steps`", "tags.`ppolab.kind`")  # fmt: skip
CHARTS = ("eval/return", "train/return")
_SECTION = "ppolab-returns"


def view_tag() -> str:
    """Return the value of the tag: what MLflow 3.17's "Save as new view" writes, as text that is not compressed."""
    return json.dumps({"name": NAME, "createdAt": 0, "updatedAt": 0, "state": json.dumps(_state())})


def _state() -> dict[str, Any]:
    """Return what differs from the page as MLflow opens it; it adds the charts of all other metrics below."""
    return {
        "orderByKey": SORTED_BY,
        "orderByAsc": False,
        "selectedColumns": COLUMNS,
        "compareRunCharts": [_chart(metric) for metric in CHARTS],
        "compareRunSections": [
            {"uuid": _SECTION, "name": NAME, "display": True, "isReordered": True, "deleted": False}
        ],
        "isAccordionReordered": True,  # else sections are sorted by name
    }


def _chart(metric: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "uuid": f"ppolab-{metric}",
        "metricSectionId": _SECTION,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": metric,
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": True,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "lineSmoothness": 0,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
