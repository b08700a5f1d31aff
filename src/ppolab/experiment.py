"""One training run from configuration to result: builds the parts, the Trainer, and the services around them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy

from ppolab.checkpoint import Checkpoint, load_newest
from ppolab.config import Config, to_yaml
from ppolab.envs import EVALUATION, TRAINING, VectorEnv, choose_backend, environment_seeds, make_vector_env
from ppolab.errors import ConfigError, PpolabError, ProcessError
from ppolab.launch import joined, together
from ppolab.module import PPOModule
from ppolab.parallel import Processes
from ppolab.parameters import make_optimizer
from ppolab.places import Place
from ppolab.runs import FoundRun, RunFolder, write_whole
from ppolab.services import Pace, RunResult, RunServices, TrialOfStudy
from ppolab.watchdog import end_at_once, watched

log = logging.getLogger(__name__)


def run(
    config: Config, folder: Path, resume: FoundRun | None = None, trial: TrialOfStudy | None = None
) -> RunResult | None:
    """Train as `config` says; every file goes to `folder`. `trial`: the run is one of a study's.

    Of several processes that were started from outside, only the first returns a result.

    Raises:
        ConfigError: something only now known to be impossible (no GPU, a finished run to resume).
        EnvError, TrainingError: see their docstrings; the MLflow run is marked FAILED.
        ProcessError: another process of the run is gone; the same.
        InterruptedRun: after SIGINT or SIGTERM; everything is saved, the MLflow run is marked KILLED.
    """
    _accelerator(config)
    make_optimizer(config, torch.nn.Parameter(torch.zeros(1)))  # a mistake in it shows before anything is written
    checkpoint = _checkpoint_of(resume) if resume else None
    _check_resumable(config, checkpoint)
    with together(config, follow, folder) as (place, processes):
        if not processes.is_first:
            _follow(config, place, processes)
            return None
        files = RunFolder(folder)
        files.path.mkdir(parents=True, exist_ok=True)
        with files.held(), _module(config, processes, checkpoint) as module, _evaluation(config) as eval_env:
            write_whole(files.config, to_yaml(config))
            services = RunServices(config, files, module, eval_env, checkpoint, trial)
            return services.fit(_trainer(config, place, services))


def follow(config: Config, place: Place) -> str | None:
    """What a process does that the first one has started; returns the problem that ended it, if there was one."""
    try:
        with joined(place, config) as processes:
            _follow(config, place, processes)
    except ProcessError:  # is not the cause
        return None
    except PpolabError as error:
        return str(error)
    return None


def _follow(config: Config, place: Place, processes: Processes) -> None:
    """Train along with the first process, which does all the rest."""
    with (
        _module(config, processes, None) as module,
        watched([module.env], config.env.timeout, end_at_once),
    ):
        _trainer(config, place, Pace(config, module)).fit(module)


@contextmanager
def _module(config: Config, processes: Processes, checkpoint: Checkpoint | None) -> Iterator[PPOModule]:
    """This process's part of the run, with its own environments; goes on from the first process's `checkpoint`."""
    _quiet_lightning()
    torch.set_num_threads(config.trainer.threads or 1)  # small networks lose by more
    pl.seed_everything(config.seed, verbose=False)
    backend = choose_backend(config.env)
    seeds = environment_seeds(config.seed, processes.rank * config.num_envs, config.num_envs, TRAINING)
    with closing(make_vector_env(config.env, seeds, backend)) as env:
        log.info("%s on %s: %d environments x %d steps", config.env.id, backend, config.num_envs, config.rollout_steps)
        module = PPOModule(config, env, processes)
        state = processes.first_of(checkpoint.module if checkpoint else None)
        if state is not None:
            module.restore_on_start(state)
        yield module


@contextmanager
def _evaluation(config: Config) -> Iterator[VectorEnv]:
    seeds = environment_seeds(config.seed, 0, config.eval_episodes, EVALUATION)
    with closing(make_vector_env(config.env, seeds, choose_backend(config.env))) as env:
        yield env


def _trainer(config: Config, place: Place, callback: pl.Callback) -> pl.Trainer:
    several = DDPStrategy(cluster_environment=_Joined(place)) if place.size > 1 else "auto"
    return pl.Trainer(
        accelerator=_accelerator(config), devices=config.trainer.devices, num_nodes=config.trainer.num_nodes,
        strategy=several, max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip


class _Joined(ClusterEnvironment):
    """Tells Lightning that the processes are there and have met."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    creates_processes_externally = True
    main_address = ""
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._place.size

    def set_world_size(self, size: int) -> None:
        assert size == self._place.size

    def global_rank(self) -> int:
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        assert rank == self._place.rank

    def local_rank(self) -> int:
        return self._place.local_rank

    def node_rank(self) -> int:
        return self._place.node_rank


def _checkpoint_of(found: FoundRun) -> Checkpoint:
    """With the id of its tracking run: a checkpoint may be older than the store's first answer, run.json is not."""
    checkpoint = load_newest(found.checkpoint)
    return replace(checkpoint, run_id=found.folder.run_id() or checkpoint.run_id)


def _check_resumable(config: Config, checkpoint: Checkpoint | None) -> None:
    if checkpoint and checkpoint.module["steps"] >= config.total_steps:
        raise ConfigError(
            f"total_steps={config.total_steps}: the run has already taken {checkpoint.module['steps']} steps; "
            f"go on with a larger one, such as total_steps={2 * config.total_steps}"
        )


def _accelerator(config: Config) -> str:
    wanted, devices = config.trainer.accelerator, config.trainer.devices
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer=gpu: PyTorch finds no GPU here; use trainer=cpu or trainer=auto")
    chosen = wanted if wanted != "auto" else "gpu" if torch.cuda.is_available() else "cpu"
    if chosen == "gpu" and devices > torch.cuda.device_count():
        raise ConfigError(
            f"trainer.devices={devices}: there are {torch.cuda.device_count()} GPUs here; lower it, or set "
            "trainer.accelerator=cpu"
        )
    return chosen


def _quiet_lightning() -> None:
    """Its notices about hardware and data loading are not about this program."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode.*")
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
