"""Play an ONNX policy inside an MLflow model, which holds a copy of this file: it imports nothing of ppolab."""

from __future__ import annotations

from typing import Any

import numpy as np

TYPES = {"float": "float32", "double": "float64", "float16": "float16"}


class ServedPolicy:
    """What `mlflow.pyfunc.load_model` wraps; `predict` maps a batch of observations to a batch of actions."""

    def __init__(self, path: str) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._types = {found.name: _array_type(found.type) for found in self._session.get_inputs()}
        self._outputs = [found.name for found in self._session.get_outputs()]

    def predict(self, model_input: Any) -> Any:
        """Return actions [N, ...] for observations [N, ...], or for a dict of them by the names of the inputs.

        Actions of several parts are a dict, too, by the names of the outputs; with memory also `next_state`.
        """
        given = model_input if isinstance(model_input, dict) else dict.fromkeys(self._types, model_input)
        inputs = {name: np.asarray(given[name], dtype=kind) for name, kind in self._types.items()}
        actions = dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))
        return actions["action"] if list(actions) == ["action"] else actions


def _array_type(onnx_type: str) -> str:
    kind = onnx_type.removeprefix("tensor(").removesuffix(")")
    return TYPES.get(kind, kind)


def _load_pyfunc(path: str) -> ServedPolicy:
    """Return the model in the file at `path`, as MLflow asks for it."""
    return ServedPolicy(path)
