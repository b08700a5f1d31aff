"""Import what every run needs; a fork server imports this once, and its runs start without importing anything.

None of these modules may start a thread while it is imported: threads do not survive a fork, but their locks do.
"""

import importlib
import io

from omegaconf import OmegaConf

from ppolab.config.files import option_defaults
from ppolab.config.loading import from_hydra, from_yaml, to_yaml
from ppolab.config.recorded import recorded_settings
from ppolab.envs.envpool_import import import_usual
from ppolab.records.learning_curve import draw_learning_curve
from ppolab.records.versions import package_versions
from ppolab.runtime.fast_imports import import_lightning, lean_imports

PICTURES = ("matplotlib.backends.backend_agg", "matplotlib.figure")
RUNS = (
    "hydra_plugins.hydra_ppolab._process_jobs",
    "ppolab.training.run",
    "ppolab.study.trial_process",
    "ppolab.cli.commands",  # the script that a user starts imports it, and every process imports that script
    "ppolab.cli.jobs",
    "ppolab.learning.algorithms.ppo_clip",
    "hydra._internal.logging_config",
    "torch._subclasses",
)
OPTIONS = {"env": "cartpole", "model": "mlp", "optimizer": "adam", "trainer": "cpu", "logger": "mlflow"}
"""The options of the run that is rehearsed, by group."""

with lean_imports():
    import_lightning()  # without PyTorch's compiler, which `_preload_compiler` imports where runs may need it
    for name in RUNS:
        importlib.import_module(name)
for name in PICTURES:  # after the others, which would import much more if these were there
    importlib.import_module(name)
import_usual()


def rehearse() -> None:
    """Do once what every run does before and after its training: files are read, fonts found, grammars built."""
    from ppolab.cli.jobs import overridden_keys

    settings = {key: value for key, value in option_defaults(".", "config").items() if key not in ("defaults", "hydra")}
    options = {group: option_defaults(group, name) for group, name in OPTIONS.items()}
    algorithm = option_defaults("algorithm", "ppo_clip")
    recorded_settings(from_yaml(to_yaml(from_hydra(OmegaConf.create({**settings, **options, **algorithm})))))
    package_versions()
    overridden_keys(["seed=0", "optimizer.lr=1e-3"])
    rows = [{"step": step, "train/return": step, "eval/return": step, "eval/return_std": 1.0} for step in (0.0, 1e4)]
    draw_learning_curve(rows, "CartPole-v1, seed 0", io.BytesIO())


rehearse()
