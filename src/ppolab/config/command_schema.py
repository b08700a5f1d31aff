"""Define what src/evaluate.py and src/export.py take: the dataclasses that Hydra fills for these commands."""

from __future__ import annotations

from dataclasses import dataclass

from ppolab.config.rules import NOT_NEGATIVE, POSITIVE
from ppolab.config.setting import setting


@dataclass
class EvaluateConfig:
    """One call of src/evaluate.py."""

    run: str = setting(
        "a run folder, a checkpoint file, an MLflow run id or its first digits, a run's name, or models:/NAME/VERSION"
    )
    episodes: int = setting("how many are played", 10, rule=POSITIVE)
    seed: int = setting("of the environments, and of sampled actions", 0, rule=NOT_NEGATIVE)
    deterministic: bool = setting("take the most probable actions; false: sample them, as training does", True)
    checkpoint: str = setting(
        "best (by eval/return) or last; a checkpoint file in run= names its own", "best", choices=("best", "last")
    )
    video: bool = setting("film the first episode", True)


@dataclass
class ExportConfig:
    """One call of src/export.py."""

    run: str = setting("an MLflow run id, a run folder or a checkpoint file")
    format: str = setting(
        "onnx, torch_export: a file; mlflow: a version of a registered model, which holds the ONNX file",
        "onnx",
        choices=("onnx", "torch_export", "mlflow"),
    )
    checkpoint: str = setting(
        "best (by eval/return) or last; a checkpoint file in run= names its own", "best", choices=("best", "last")
    )
    path: str | None = setting("the file; null: policy.onnx or policy.pt2 in the folder export of the run", None)
    name: str | None = setting("format=mlflow: the registered model", None)
