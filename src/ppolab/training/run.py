"""Train one run, from configuration to result: what it is built of, and what surrounds it."""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy

from ppolab.agents.export_formats import check_packages
from ppolab.agents.policy import CPU, build_policy, check_network
from ppolab.config.schema import Config
from ppolab.envs.factory import (
    EVALUATION,
    TRAINING,
    VectorEnv,
    backend_choice,
    choose_backend,
    environment_seeds,
    for_evaluation,
    make_vector_env,
)
from ppolab.envs.seeding import private_generators
from ppolab.errors import ConfigError, InterruptedRun, PpolabError, ProcessError, UserCodeError
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.encoders import note_on_encoders
from ppolab.learning.native.messages import with_messages
from ppolab.learning.optimizer import check_optimizer
from ppolab.learning.schedules import check_schedules
from ppolab.records.checkpoint import Checkpoint, load_newest
from ppolab.records.run_folder import FoundRun, RunFolder
from ppolab.records.run_log import log_to_file
from ppolab.runtime.deferred_imports import load_deferred
from ppolab.runtime.memory import forget_code, keep_freed_memory, return_free_memory
from ppolab.runtime.process_group import ProcessGroup
from ppolab.runtime.rank_launcher import join_process_group, launch_ranks
from ppolab.runtime.ranks import Rank
from ppolab.runtime.signals import signals_handled_by
from ppolab.training.build import build_module, check_exploration
from ppolab.training.callbacks.change_env import ChangeEnv
from ppolab.training.callbacks.checkpoints import Checkpoints
from ppolab.training.callbacks.evaluating import Evaluation
from ppolab.training.callbacks.pruning import Pruning
from ppolab.training.callbacks.recording import Recording
from ppolab.training.callbacks.show_warnings import ShowWarnings
from ppolab.training.callbacks.start import Beginning, Start
from ppolab.training.callbacks.stopping import Stopping, StopTogether
from ppolab.training.closing import make_pictures, register_best
from ppolab.training.module import OnPolicyModule
from ppolab.training.progress_bar import ProgressBar
from ppolab.training.pytorch_threads import rollout_threads
from ppolab.training.recorder import RunRecorder, recorded_run
from ppolab.training.result import RunResult
from ppolab.training.resume import check_unused, how_to_go_on
from ppolab.training.segment import checkpoint_of_segment
from ppolab.training.tensorboard_events import check_tensorboard
from ppolab.training.trial import TrialOfStudy
from ppolab.training.user_callbacks import user_callbacks
from ppolab.training.warm_start import warm_start
from ppolab.training.watchdog import end_at_once, watched

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """Hold what one rank of a run is to train.

    Attributes:
        users: the user's own callbacks.
        own_process: this process is there for the run alone, and may be ended with it.
    """

    config: Config
    rank: Rank
    group: ProcessGroup
    users: Sequence[pl.Callback]
    own_process: bool = True


@dataclass(frozen=True)
class Surroundings:
    """Hold the callbacks of one rank, and two of them that know how the run ended."""

    callbacks: list[pl.Callback]
    stopping: Stopping
    pruning: Pruning


def run(
    config: Config,
    folder: Path,
    resume: FoundRun | None = None,
    trial: TrialOfStudy | None = None,
    *,
    own_process: bool = True,
) -> RunResult | None:
    """Train as `config` says; every file goes to `folder`.

    Of several ranks that were started from outside, only the first returns a result.

    Args:
        trial: the run is one of a study's.
        own_process: False keeps this process alive whatever happens: a second signal raises KeyboardInterrupt, and an
            environment that does not come back is only told of.

    Raises:
        ConfigError: something only now known to be impossible (no GPU, a finished run to resume, a folder that holds
            another run).
        EnvError, TrainingError, UserCodeError: see their docstrings; the MLflow run is marked FAILED.
        ProcessError: another rank of the run is gone; the same.
        InterruptedRun: after SIGINT or SIGTERM; everything is saved, the MLflow run is marked KILLED.
    """
    _accelerator(config)
    check_network(config)  # a mistake in it shows before anything is written
    check_optimizer(config)
    check_schedules(config)
    check_tensorboard(config)
    if config.logger.register:
        check_packages(f"logger.register={config.logger.register}", "mlflow")
        load_deferred()  # the export needs PyTorch whole, and the store MLflow
    users = user_callbacks(config.callbacks)
    checkpoint = _checkpoint_of(resume) if resume else None
    if trial is not None and trial.segment is not None:
        checkpoint = checkpoint_of_segment(trial.segment)
    if resume is not None and checkpoint is not None and resume.folder.is_finished:
        _check_resumable(config, checkpoint)
    if checkpoint is None and trial is None:  # a sweep knows what its folders hold
        check_unused(RunFolder(folder))
    with launch_ranks(config, run_rank, folder) as (rank, group):
        task = Task(config, rank, with_messages(group), users, own_process)
        try:
            if not group.is_first:
                _train_as_other_rank(task)
                return None
            files = RunFolder(folder)
            files.path.mkdir(parents=True, exist_ok=True)
            with files.held():
                return _train_as_first_rank(task, files, checkpoint, trial)
        except UserCodeError as error:  # the environments log the tracebacks of their own errors
            log_to_file(error)
            raise


def run_rank(config: Config, rank: Rank) -> str | None:
    """Train along in a process that the first rank has started; return the problem that ended it, if there was one."""
    try:
        with join_process_group(rank, config) as group:
            _train_as_other_rank(Task(config, rank, with_messages(group), user_callbacks(config.callbacks)))
    except ProcessError:  # another rank is gone; that one tells why
        return None
    except PpolabError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)  # this process's terminal is a file
        return str(error)
    return None


def _train_as_first_rank(
    task: Task, files: RunFolder, checkpoint: Checkpoint | None, trial: TrialOfStudy | None
) -> RunResult:
    """Train as the first rank, often the only one, which does all that is shown, written and sent."""
    config = task.config
    with (
        env_and_policy(config, task.rank, task.group) as (env, policy),
        evaluation_env(config, device_of(config, task.rank)) as eval_env,
        recorded_run(
            config, files, checkpoint, trial, taken := warm_start(config, policy, env.action_space, checkpoint)
        ) as recorder,
        watched((env, eval_env), config.env.timeout, recorder.give_up if task.own_process else tell_of_hanging),
    ):
        started = time.perf_counter()
        state = checkpoint.module if checkpoint else None
        until = trial.segment.until if trial and trial.segment else None
        beginning = task.group.broadcast(Beginning(state, taken, recorder.evaluated_at, until))
        around = surroundings(task, beginning, recorder, eval_env, trial, files)
        with signals_handled_by(around.stopping.on_signal):
            module = build_module(config, env, policy, task.group)
            try:
                make_trainer(config, task.rank, around.callbacks).fit(module)
            except BaseException:
                if around.stopping.ended_at_once:
                    raise KeyboardInterrupt from None
                raise
        seconds = time.perf_counter() - started
        recorder.check_saved()
        if around.stopping.interrupted:
            raise InterruptedRun(interruption(config, files, module.steps))
        recorder.complete(pruned=around.pruning.pruned)
        for environments in (env, eval_env):
            environments.close()  # what draws the pictures takes as much memory
        make_pictures(config, files, policy, interrupted=around.stopping.got_signal)
    if config.logger.register and recorder.tracking_uri and not around.pruning.pruned:
        register_best(config, files, config.logger.register, recorder.tracking_uri)
    return result_of(module, recorder, files, beginning.first_step, seconds, pruned=around.pruning.pruned)


def result_of(
    module: OnPolicyModule, recorder: RunRecorder, files: RunFolder, first_step: int, seconds: float, *, pruned: bool
) -> RunResult:
    """Return what a run reports that has come to its end."""
    return RunResult(
        config=module.config,
        folder=files,
        run_id=recorder.run_id,
        tracking_uri=recorder.tracking_uri,
        metrics=recorder.metrics,
        steps=module.steps,
        new_steps=module.steps - first_step,
        seconds=seconds,
        best_return=recorder.best_return,
        pruned=pruned,
        page=recorder.page,
    )


def _train_as_other_rank(task: Task) -> None:
    """Train along with the first rank."""
    with (
        env_and_policy(task.config, task.rank, task.group) as (env, policy),
        watched([env], task.config.env.timeout, end_at_once),
    ):
        beginning = task.group.broadcast(Beginning())
        module = build_module(task.config, env, policy, task.group)
        make_trainer(task.config, task.rank, surroundings(task, beginning).callbacks).fit(module)


def surroundings(
    task: Task,
    beginning: Beginning,
    recorder: RunRecorder | None = None,
    eval_env: VectorEnv | None = None,
    trial: TrialOfStudy | None = None,
    files: RunFolder | None = None,
) -> Surroundings:
    """Return what surrounds a run, in order. What is sent between ranks is sent by all, since the list is one.

    The user's callbacks come before checkpoints, which so hold their states of the same iteration.

    Args:
        recorder, eval_env, trial, files: of the first rank only.
    """
    config, first_step = task.config, beginning.first_step
    stopping = Stopping(beginning.until or config.total_steps, recorder, files, own_process=task.own_process)
    pruning = Pruning(config, first_step, trial, recorder)
    callbacks = [
        Start(beginning, task.users),
        *([Recording(recorder), ShowWarnings(recorder)] if recorder else []),
        *([ProgressBar(config.total_steps, first_step, config.progress)] if recorder else []),
        stopping,
        *([*task.users, StopTogether(), ChangeEnv()] if task.users else []),
        Evaluation(config, beginning, stopping, recorder, eval_env, task.users),
        pruning,
        Checkpoints(config.checkpoint_interval, first_step, stopping, recorder, task.users),
    ]
    return Surroundings(callbacks, stopping, pruning)


@contextmanager
def env_and_policy(config: Config, rank: Rank, group: ProcessGroup) -> Iterator[tuple[VectorEnv, ActorCritic]]:
    """Seed this process, and make this rank's own environments and the untrained policy on its device."""
    torch.set_num_threads(rollout_threads(config))
    pl.seed_everything(config.seed, verbose=False)
    choice = backend_choice(config.env)
    if group.is_first:
        for note in choice.notes:
            log.info("%s", note)
        for warning in choice.warnings:
            log.warning("%s", warning)
    seeds = environment_seeds(config.seed, group.rank * config.num_envs, config.num_envs, TRAINING)
    device = device_of(config, rank)
    with private_generators(seeds[0]):  # else environments of several ranks may be made with the same random numbers
        made = make_vector_env(config.env, seeds, choice.name, device)
    with closing(made) as env, quiet_lightning():
        policy = build_policy(config, env, device)
        check_exploration(config.exploration, env, policy)  # before anything is recorded
        log.info(
            "%s on %s: %d environments x %d steps", config.env.id, choice.name, config.num_envs, config.rollout_steps
        )
        policy.bf16 = config.trainer.precision == "bf16"
        if policy.layout.images:
            keep_freed_memory()
        if chosen := note_on_encoders(env.layout, config.model):
            log.info("%s", chosen)
        return_free_memory()  # of what made them
        forget_code()  # of drawing the weights
        yield env, policy


@contextmanager
def evaluation_env(config: Config, device: torch.device = CPU) -> Iterator[VectorEnv]:
    """Yield the environments that evaluations are played in; on `device`, where these are worlds of mjlab's."""
    seeds = environment_seeds(config.seed, 0, config.eval_episodes, EVALUATION)
    with private_generators(seeds[0]):
        evaluated = for_evaluation(config.env)
        made = make_vector_env(evaluated, seeds, choose_backend(evaluated), device)
    with closing(made) as env:
        yield env


def make_trainer(config: Config, rank: Rank, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """Return the Trainer of one rank. It makes one epoch, whose batches are iterations, and records nothing itself."""
    several = DDPStrategy(cluster_environment=_Joined(rank)) if rank.world_size > 1 else "auto"
    return pl.Trainer(
        accelerator=_accelerator(config),
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=several,
        max_epochs=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


class _Joined(ClusterEnvironment):
    """Tell Lightning that the ranks have been started and have joined."""

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self._rank = rank

    creates_processes_externally = True
    main_address = ""
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._rank.world_size

    def set_world_size(self, size: int) -> None:
        assert size == self._rank.world_size

    def global_rank(self) -> int:
        return self._rank.global_rank

    def set_global_rank(self, rank: int) -> None:
        assert rank == self._rank.global_rank

    def local_rank(self) -> int:
        return self._rank.local_rank

    def node_rank(self) -> int:
        return self._rank.node_rank


def _checkpoint_of(found: FoundRun) -> Checkpoint:
    """Return it with the id of its tracking run: it may be older than the store's first answer, run.json is not."""
    checkpoint = load_newest(found.checkpoint)
    return replace(checkpoint, run_id=found.folder.run_id() or checkpoint.run_id)


def _check_resumable(config: Config, checkpoint: Checkpoint) -> None:
    """Refuse a finished run without further steps; one that was killed after its last step lacks an evaluation."""
    if checkpoint.module["steps"] >= config.total_steps:
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


def device_of(config: Config, rank: Rank) -> torch.device:
    """Return where Lightning will have this rank's module: the policy must be there before its parameters are tied."""
    if _accelerator(config) != "gpu":
        return CPU
    device = torch.device("cuda", rank.local_rank)
    torch.cuda.set_device(device)
    return device


def tell_of_hanging(problem: str) -> None:
    """Log what hangs, and how to end it."""
    log.error("%s; Ctrl-C twice ends the run", problem)


def interruption(config: Config, files: RunFolder, steps: int) -> str:
    """Return what to tell of a run that was stopped after so many steps."""
    return f"stopped after {steps:,} of {config.total_steps:,} steps, everything is saved; {how_to_go_on(files)}"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence notices about hardware and data loading inside the block; they are not about this program."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for about in QUIET:
            warnings.filterwarnings("ignore", message=about)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


QUIET = (
    ".*does not have many workers.*",
    ".*GPU available but not used.*",
    ".*module\\(s\\) in eval mode.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
)
"""Warnings of Lightning that are not shown."""
