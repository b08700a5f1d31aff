"""The wheel: what is in it, and that it works without the source tree beside it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import ppolab
from commands import ROOT, TINY, Answer, run_command

pytest.importorskip("hatchling", reason="the build backend is in the extra 'dev'")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files, so that nothing is written into the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    answer = run_command(folder, (*command, "--wheel-dir", folder, ROOT))
    assert answer.code == 0, answer.err
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment with the wheel, which sees the packages installed here."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    # else pip would first remove the ppolab that is installed here
    subprocess.run([*pip, "--ignore-installed", "--prefix", str(folder), str(wheel)], check=True)
    (Path(packages) / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run_installed(script: Path, folder: Path, *arguments: str) -> Answer:
    """A command of the fresh environment; `script` may name its Python, whatever pip wrote into the first line."""
    return run_command(folder, (script.parent / "python", script, *arguments))


def test_installing_the_wheel_elsewhere_leaves_what_is_installed_here(installed: Path) -> None:
    assert installed.is_dir()
    here = run_command(installed, (sys.executable, "-m", "pip", "show", "--files", "ppolab"))
    assert here.code == 0, "ppolab is no longer installed beside the tests: pip install -e ."


def test_wheel_holds_the_packages_and_their_data_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"ppolab-{ppolab.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"ppolab", "hydra_plugins", metadata}
    assert "hydra_plugins/__init__.py" not in names, "a namespace shared with other plugins"
    assert "hydra_plugins/hydra_ppolab/__init__.py" in names
    assert "ppolab/py.typed" in names
    for folder, package in (("conf", "ppolab/conf"), ("sweeps", "ppolab/sweeps")):
        shipped = {f"{package}/{path.relative_to(ROOT / folder)}" for path in (ROOT / folder).rglob("*.yaml")}
        assert shipped
        assert shipped <= set(names)
    modules = {f"ppolab/{path.relative_to(ROOT / 'src/ppolab')}" for path in (ROOT / "src/ppolab").rglob("*.py")}
    assert modules <= set(names)
    assert not [name for name in names if "__pycache__" in name or "outputs" in name or "test" in name]


def test_wheel_declares_its_commands_and_its_version(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    folder = f"ppolab-{ppolab.__version__}.dist-info"
    entry_points = archive.read(f"{folder}/entry_points.txt").decode()
    assert "ppolab-train = ppolab.cli.commands:train" in entry_points
    assert "ppolab-evaluate = ppolab.cli.commands:evaluate" in entry_points
    assert "ppolab-export = ppolab.cli.commands:export" in entry_points
    assert "ppolab-report = ppolab.cli.commands:report" in entry_points
    metadata = archive.read(f"{folder}/METADATA").decode()
    assert f"Version: {ppolab.__version__}\n" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_installed_commands_work_away_from_the_source(installed: Path, tmp_path: Path) -> None:
    shown = run_installed(installed / "ppolab-train", tmp_path, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert "clip_grid" in shown.out, "sweeps/ is on the search path"
    assert "cartpole" in shown.out

    arguments = ("env=cartpole", *TINY, "total_steps=256", "logger=none")
    trained = run_installed(installed / "ppolab-train", tmp_path, *arguments)
    assert trained.code == 0, trained.err
    (run,) = {path.parent.parent for path in (tmp_path / "outputs").rglob("last.ckpt")}

    judged = run_installed(installed / "ppolab-evaluate", tmp_path, f"run={run}", "episodes=2", "video=false")
    assert judged.code == 0, judged.err
    assert (run / "evaluations/best-seed0-2episodes/result.json").is_file()

    shown = run_installed(installed / "ppolab-report", tmp_path, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert "normalize=range" in shown.out


def test_installed_package_is_not_the_source_tree(installed: Path, tmp_path: Path) -> None:
    where = run_command(tmp_path, (installed / "python", "-c", "import ppolab; print(ppolab.__file__)"))
    assert where.code == 0, where.err
    assert Path(where.out.strip()).is_relative_to(installed.parent)
