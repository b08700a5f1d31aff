"""Policies in MLflow's registry: registered when a run ends, served over HTTP, and never worth failing a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import probe_envs  # noqa: F401
import pytest
from in_process import call
from servers import Server, client_of, free_port, wait_for
from small_runs import run_small

from commands import ROOT
from ppolab.agents.agent import Agent
from ppolab.agents.trained_policy import load_policy
from ppolab.cli.commands import export_main
from ppolab.envs.spaces import stacked
from ppolab.records.run_folder import FoundRun, RunFolder
from ppolab.training.closing import register_best

WITHOUT_PPOLAB = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ppolab", "torch"):
            raise ModuleNotFoundError(f"{name} must not be imported", name=name)
sys.meta_path.insert(0, Absent())
import mlflow, numpy
batch = {name: numpy.array(values) for name, values in json.load(sys.stdin).items()}
model = mlflow.pyfunc.load_model(sys.argv[1])
types = {spec.name: spec.type for spec in model.metadata.signature.inputs.inputs}
print(json.dumps(model.predict({name: values.astype(types[name]) for name, values in batch.items()}).tolist()))
"""


@contextmanager
def served(uri: str, model: str) -> Iterator[str]:
    """The address of `mlflow models serve`."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model, "--env-manager", "local"]
    binaries = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": binaries, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=variables, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/ping"))
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def asked(address: str, inputs: Any) -> Any:
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["predictions"]


def test_a_run_registers_its_best_policy_which_answers_over_http(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        wait_for(server.answers)
        settings = {"env": "cartpole", "total_steps": 640, "logger": "mlflow", "logger.video": False}
        store = {"logger.tracking_uri": server.uri, "logger.register": "pole"}
        result = run_small(tmp_path / "run", **settings, **store)
        (version,) = client_of(server.uri).search_model_versions("name = 'pole'")
        assert version.run_id == result.run_id
        assert version.tags["environment"] == "CartPole-v1"
        assert version.tags["checkpoint"] == "best"
        assert float(version.tags["eval_return"]) == result.best_return
        assert version.description.startswith(f"The best policy of CartPole-v1 after {version.tags['steps']} steps.")
        trained = load_policy(FoundRun(result.folder, result.folder.checkpoint("best")))
        drawn = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
        expected = Agent(trained).act(drawn).tolist()
        assert set(expected) == {0, 1}
        with served(server.uri, "models:/pole/1") as address:
            assert asked(address, drawn.tolist()) == expected
    finally:
        server.kill()


def test_actions_in_parts_have_named_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_small(tmp_path / "run", **{"env.id": "probe_envs:probe/Orders-v0", "total_steps": 640})
    answer = call(export_main, tmp_path, capsys, "run=run", "format=mlflow", "name=orders")
    assert (answer.code, answer.err) == (0, "")
    trained = load_policy(FoundRun(RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run").checkpoint("best")))
    batch = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = Agent(trained).act(batch)
    with served(uri, "models:/orders/1") as address:
        seen = asked(address, batch.tolist())
    assert seen.keys() == {"action.how.0", "action.which"}
    assert seen["action.which"] == expected["which"].tolist()
    assert np.allclose(seen["action.how.0"], expected["how"][0], atol=1e-4)


def test_a_policy_of_an_untracked_run_is_registered_later_and_needs_no_ppolab(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_small(tmp_path / "run", **{"env.id": "probe_envs:probe/Parts-v0", "total_steps": 640})
    for _ in range(2):  # the second call finds the version of the first
        answer = call(export_main, tmp_path, capsys, "run=run", "format=mlflow", "name=parts")
        assert (answer.code, answer.err) == (0, "")
        assert "registered    models:/parts/1\n" in answer.out
    (version,) = client_of(uri).search_model_versions("name = 'parts'")
    assert version.run_id == RunFolder(tmp_path / "run").run_id()
    trained = load_policy(FoundRun(RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run").checkpoint("best")))
    space = trained.observation_space
    space.seed(1)
    batch = stacked([space.sample() for _ in range(20)], space)
    inputs = {
        "observation.shown": batch["shown"], "observation.place.x": batch["place"]["x"],
        "observation.place.lamp": batch["place"]["lamp"], "observation.pair.0": batch["pair"][0],
        "observation.pair.1": batch["pair"][1],
    }  # fmt: skip
    given = json.dumps({name: values.tolist() for name, values in inputs.items()})
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PPOLAB, "models:/parts/1"], input=given, capture_output=True, text=True,
        check=False, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, cwd=ROOT / "tests",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == Agent(trained).act(batch).tolist()


def test_a_store_that_is_away_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = run_small(tmp_path / "run", env="cartpole", total_steps=640)
    register_best(result.config, result.folder, "pole", f"http://127.0.0.1:{free_port()}")
    assert (tmp_path / "run/export/policy.onnx").is_file()
    (told,) = [record.getMessage() for record in caplog.records if "not registered" in record.getMessage()]
    assert "cannot record the run in http://127.0.0.1:" in told
    assert told.endswith(f"export run={tmp_path}/run format=mlflow name=pole")
    assert "\n" not in told
