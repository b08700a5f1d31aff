"""What a configuration cannot do, and who can reach a run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import make_config

from commands import TINY, TRAIN, Answer, assert_one_line, clean_environment, train_together, write_user_module
from ppolab.config.loading import to_yaml
from ppolab.errors import ConfigError
from ppolab.learning.optimizer import optimizer_class
from ppolab.redaction import redacted

PAYLOAD = "_target_: subprocess.check_call, args: [touch, executed]"
FILES = {
    "callback": f"hydra: {{callbacks: {{x: {{{PAYLOAD}}}}}}}",
    "factory": "hydra: {hydra_logging: {formatters: {x: {'()': subprocess.Popen, args: [touch, executed]}}}}",
    "module": "hydra: {job_logging: {handlers: {x: {'()': logging.os.system, command: touch executed}}}}",
}
INJECTIONS = {
    "optimizer": ("optimizer._target_=subprocess.check_call", "optimizer._target_=subprocess.check_call"),
    "inside torch": ("optimizer._target_=torch.optim.lr_scheduler.warn", "optimizer._target_=torch.optim.lr_scheduler"),
    "callback": (f"+hydra.callbacks.x={{{PAYLOAD}}}", "hydra.callbacks.x._target_=subprocess.check_call"),
    "log": (
        "+hydra.job_logging.handlers.x={class: subprocess.Popen, args: [touch, executed]}",
        "hydra.job_logging.handlers.x.class=subprocess.Popen",
    ),
    "launcher": ("hydra.launcher._target_=subprocess.check_call", "subprocess.check_call"),
    "lookup": (
        "+hydra.job_logging.formatters.x={format: 'ext://evil.x'}",
        "hydra.job_logging.formatters.x.format=ext://evil.x: runs code",
    ),
    "by way of a module": ("experiment=module", "hydra.job_logging.handlers.x.()=logging.os.system: runs code"),
    "search path": ("hydra.searchpath=[pkg://evil]", "imports a package"),
    "pickle": ("--experimental-rerun=job.pickle", "--experimental-rerun=job.pickle: reads a pickle"),
    "environment": (f"env.kwargs={{x: {{{PAYLOAD}}}}}", "env.kwargs="),
    "file": ("experiment=callback", "hydra.callbacks.x._target_=subprocess.check_call"),
    "factory in a file": ("experiment=factory", "hydra.hydra_logging.formatters.x.()=subprocess.Popen"),
}  # fmt: skip


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Answer]]:
    workspace = tmp_path_factory.mktemp("injected")
    write_user_module(workspace)
    (workspace / "evil.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    (workspace / "experiment").mkdir()
    for name, content in FILES.items():
        (workspace / f"experiment/{name}.yaml").write_text(f"# @package _global_\n{content}")
    commands = {name: ["env=cartpole", *TINY, argument] for name, (argument, _) in INJECTIONS.items()}
    commands["launcher"] = ["-m", "env=cartpole", "seed=0,1", *TINY, INJECTIONS["launcher"][0]]
    for name in ("file", "factory in a file", "by way of a module"):
        commands[name].append("hydra.searchpath=[file://.]")
    return workspace, train_together(workspace, **commands)


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_configuration_runs_no_code_but_its_own(name: str, injected: tuple[Path, dict[str, Answer]]) -> None:
    workspace, answers = injected
    assert_one_line(answers[name], INJECTIONS[name][1])
    assert not (workspace / "executed").exists()


@pytest.mark.parametrize(
    "name", ["Optimizer.__init__", "lr_scheduler.StepLR", "optimizer.warnings", "swa_utils.copy", "Adm"]
)
def test_an_optimizer_is_a_class_of_torch_optim(name: str) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\._target_=torch\.optim\..*there is no such class"):
        optimizer_class(make_config(**{"optimizer._target_": f"torch.optim.{name}"}))


def test_a_stored_configuration_holds_no_password() -> None:
    text = to_yaml(make_config(**{"logger.tracking_uri": "http://me:hunter2@lab:5000"}))
    assert "tracking_uri: http://***@lab:5000" in text
    assert redacted({"a": ["x=http://t@h", 1], "b": None}) == {"a": ["x=http://***@h", 1], "b": None}


# --- who can reach a run ---------------------------------------------------------------------------------------------


def listening(session: int) -> list[str]:
    """Addresses, as the kernel writes them, at which processes of a session listen."""
    sockets = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == session:
                sockets |= {str(link.readlink()) for link in (process / "fd").iterdir()}
        except OSError:
            continue
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        found += [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return found


KINDS = {
    "run": (),
    "several processes": ("trainer=ddp", "trainer.accelerator=cpu"),
    "sweep": ("-m", "seed=0,1", "workers=2"),
}


def addresses_of(folder: Path, *arguments: str) -> set[str]:
    """Where a command listens until its runs have made a few iterations."""
    command = [sys.executable, str(TRAIN), *arguments, "env=cartpole", *TINY, "total_steps=100000", "eval_interval=0"]
    process = subprocess.Popen(
        command, cwd=folder, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline, seen = time.monotonic() + 90, set()
        while not any(len(file.read_text().splitlines()) > 3 for file in folder.rglob("metrics.csv")):
            assert process.poll() is None and time.monotonic() < deadline
            seen |= set(listening(process.pid))
            time.sleep(0.05)
        return seen | set(listening(process.pid))
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    with ThreadPoolExecutor(len(KINDS)) as pool:
        found = pool.map(lambda arguments: addresses_of(tmp_path_factory.mktemp("run"), *arguments), KINDS.values())
        return dict(zip(KINDS, found, strict=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_listens_beyond_this_machine(kind: str, addresses: dict[str, set[str]]) -> None:
    assert addresses[kind] <= {"0100007F", "00000000000000000000000001000000"}
    assert bool(addresses[kind]) == (kind == "several processes"), "only processes that train together need to"
