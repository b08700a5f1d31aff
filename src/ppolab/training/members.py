"""Train several seeds at once: one batch of worlds, one epoch for all. Each is recorded as a run of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch._functorch.functional_call import functional_call  # `torch.func` imports half of the compiler

from ppolab.agents.policy import build_policy
from ppolab.config.schema import Config
from ppolab.envs.factory import TRAINING, VectorEnv, action_mapping, environment_seeds
from ppolab.envs.seeding import private_generators
from ppolab.envs.warp.backend import WarpEnv
from ppolab.envs.warp.part_of_env import PartOfEnv
from ppolab.errors import InterruptedRun, TrainingError
from ppolab.learning.actor_critic import ActorAlone, ActorCritic
from ppolab.learning.interface import UpdateStats
from ppolab.learning.learner import Learner
from ppolab.learning.members import epoch_of, updated_together
from ppolab.learning.optimizer import check_optimizer
from ppolab.learning.rollout import Rollout
from ppolab.learning.schedules import check_schedules
from ppolab.records.run_folder import RunFolder
from ppolab.records.run_log import RunLog
from ppolab.runtime.deferred_imports import load_deferred
from ppolab.runtime.process_group import ALONE
from ppolab.runtime.ranks import Rank
from ppolab.runtime.signals import signals_handled_by
from ppolab.training.build import build_module
from ppolab.training.callbacks.callback_base import IterationCallback
from ppolab.training.callbacks.start import Beginning
from ppolab.training.closing import make_pictures, register_best
from ppolab.training.device_loop import collected_together
from ppolab.training.iteration import Iteration
from ppolab.training.module import OnPolicyModule
from ppolab.training.progress_bar import ProgressBar
from ppolab.training.pytorch_threads import pytorch_threads, rollout_threads
from ppolab.training.recorder import RunRecorder, recorded_run
from ppolab.training.result import RunResult
from ppolab.training.run import (
    Surroundings,
    Task,
    device_of,
    evaluation_env,
    interruption,
    quiet_lightning,
    result_of,
    surroundings,
)
from ppolab.training.tensorboard_events import check_tensorboard
from ppolab.training.trial import TrialOfStudy
from ppolab.training.watchdog import watched

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seed:
    """One of the runs, whose settings differ in `seed` alone."""

    config: Config
    folder: Path
    trial: TrialOfStudy | None = None


@dataclass
class _Loop:
    """Stand for Lightning's Trainer, of which the shipped callbacks know no more than this."""

    should_stop: bool = False


@dataclass
class _Member:
    """One of the runs under way, with what records it."""

    module: OnPolicyModule
    recorder: RunRecorder
    files: RunFolder
    around: Surroundings
    log: _OwnLog
    loop: _Loop = field(default_factory=_Loop)
    seconds: float = 0.0

    @property
    def trainer(self) -> pl.Trainer:
        return cast(pl.Trainer, self.loop)

    @property
    def callbacks(self) -> Iterator[IterationCallback]:
        """Those that act after iterations; one terminal has no room for several bars."""
        for each in self.around.callbacks:
            if isinstance(each, IterationCallback) and not isinstance(each, ProgressBar):
                yield each


def run_members(seeds: Sequence[Seed]) -> list[RunResult]:
    """Train all seeds at once; return the result of each.

    What `ppolab.config.members.problem_of_members` says of their settings must be None.

    Raises:
        ConfigError, EnvError, TrainingError, InterruptedRun: as `ppolab.training.run.run` does for one; all are ended.
    """
    config = seeds[0].config
    check_optimizer(config)
    check_schedules(config)
    check_tensorboard(config)
    load_deferred()  # what maps functions over members is part of the compiler
    with ExitStack() as stack:
        env, policies = stack.enter_context(_env_and_policies([seed.config for seed in seeds]))
        eval_env = stack.enter_context(evaluation_env(config))
        members = _begun(stack, seeds, env, policies, eval_env)
        stack.enter_context(watched((env, eval_env), config.env.timeout, members[0].recorder.give_up))
        with signals_handled_by(_asking([member.around.stopping.on_signal for member in members])):
            _train(members, env)
        for member in members:
            member.recorder.check_saved()
        if any(member.around.stopping.interrupted for member in members):
            raise InterruptedRun(interruption(config, members[0].files, members[0].module.steps))
        for environments in (env, eval_env):
            environments.close()
        for member, policy in zip(members, policies, strict=True):
            with member.log.speaking():
                member.recorder.complete(pruned=False)
                make_pictures(member.module.config, member.files, policy, interrupted=member.around.stopping.got_signal)
    return [_result(member) for member in members]


def _begun(
    stack: ExitStack, seeds: Sequence[Seed], env: WarpEnv, policies: Sequence[ActorCritic], eval_env: VectorEnv
) -> list[_Member]:
    """Open the records of all runs, and build what they train with."""
    members = []
    logs = stack.enter_context(_logs_of([seed.folder for seed in seeds]))
    for index, (seed, policy, own_log) in enumerate(zip(seeds, policies, logs, strict=True)):
        config, files = seed.config, RunFolder(seed.folder)
        files.path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(files.held())
        with own_log.speaking():
            recorder = stack.enter_context(recorded_run(config, files, None, seed.trial))
            around = surroundings(Task(config, Rank(), ALONE, ()), Beginning(), recorder, eval_env, seed.trial, files)
            rows = slice(index * config.num_envs, (index + 1) * config.num_envs)
            module = build_module(config, PartOfEnv(env, rows), policy, together=True)
        members.append(_Member(module, recorder, files, around, own_log))
    log.info(
        "%s on %s: %d seeds at once, each with %d environments x %d steps",
        env.env_id, env.backend, len(seeds), seeds[0].config.num_envs, seeds[0].config.rollout_steps,
    )  # fmt: skip
    return members


def _train(members: Sequence[_Member], env: WarpEnv) -> None:
    """Make iterations of all members until each has come to its end."""
    started = time.perf_counter()
    together = Together(env, [member.module for member in members])
    if members[0].module.wants_first_rollout:
        for member, rollout in zip(members, together.collected([True] * len(members)), strict=True):
            assert rollout is not None
            member.module.take_first(rollout)
    while any(not member.loop.should_stop for member in members):
        live = [not member.loop.should_stop for member in members]
        for member, metrics in zip(members, together.iterate(live), strict=True):
            if metrics is None:
                continue
            with member.log.speaking():
                for callback in member.callbacks:
                    callback.after_iteration(member.trainer, member.module, metrics)
                if member.loop.should_stop:
                    for callback in member.callbacks:
                        callback.after_training(member.module)
                    member.seconds = time.perf_counter() - started


class Together:
    """Make the iterations of several modules, whose rollouts are of one batch of worlds, and whose epochs are one.

    Args:
        env: the environments of the first module, then those of the second, and so on.
    """

    def __init__(self, env: WarpEnv, modules: Sequence[OnPolicyModule]) -> None:
        self._env = env
        self._modules = modules
        self._learners = [_learner_of(module) for module in modules]
        self._epoch = epoch_of(self._learners)
        self._actor = ActorAlone(modules[0].policy).eval()

    def iterate(self, live: Sequence[bool]) -> list[dict[str, float] | None]:
        """Make an iteration of the modules that are `live`; return the metrics of each.

        The worlds of the others are stepped, too; nobody looks at them.

        Raises:
            EnvError, TrainingError: see `OnPolicyModule.training_step`.
        """
        started = time.perf_counter()
        iterations = [
            None if rollout is None else module.begun(rollout, started)
            for module, rollout in zip(self._modules, self.collected(live), strict=True)
        ]
        updates = [
            None if each is None else learner.updating(each.rollout, each.rewards, module.progress)
            for module, learner, each in zip(self._modules, self._learners, iterations, strict=True)
        ]
        with pytorch_threads(self._modules[0].threads):
            stats = updated_together(self._epoch, self._learners, updates)
        return [
            None if each is None or did is None else _ended(module, each, did)
            for module, each, did in zip(self._modules, iterations, stats, strict=True)
        ]

    @torch.no_grad()
    def collected(self, live: Sequence[bool]) -> list[Rollout | None]:
        """Return the next rollouts of the modules that are `live`."""
        modules = self._modules
        turns = [module.collector.begin_on_device(module.policy) for module in modules]
        observations, actions = collected_together(self._env, turns, modules[0].policy.distribution, self._acting())
        return [
            module.collector.finish_on_device(
                module.policy, observations[:, index].contiguous(), actions[:, index].contiguous()
            )
            if live[index]
            else None
            for index, module in enumerate(modules)
        ]

    def _acting(self) -> Callable[[Tensor], Tensor]:
        """Return a function from observations [M, N, W] to distribution parameters [M, N, P], as policies are now."""
        flat = self._modules[0].parameters_vector
        vectors = torch.stack([module.parameters_vector.vector.detach() for module in self._modules])

        def of_one(vector: Tensor, rows: Tensor) -> Tensor:
            named = {f"policy.{name}": part for name, part in flat.substitutes(vector).items()}
            parameters: Tensor = functional_call(self._actor, named, (rows,), tie_weights=False)
            return parameters

        return lambda rows: torch.vmap(of_one)(vectors, rows)


def _ended(module: OnPolicyModule, iteration: Iteration, stats: UpdateStats) -> dict[str, float]:
    """Return the metrics of an iteration; raise a TrainingError that names the seed."""
    try:
        return module.ended(iteration, stats)
    except TrainingError as error:
        raise TrainingError(f"seed={module.config.seed}: {error}") from error


def _learner_of(module: OnPolicyModule) -> Learner:
    assert isinstance(module.learner, Learner)
    return module.learner


@contextmanager
def _env_and_policies(configs: Sequence[Config]) -> Iterator[tuple[WarpEnv, list[ActorCritic]]]:
    """Make the environments of all seeds as one batch, and the untrained policies, each with the seed of its run."""
    config = configs[0]
    torch.set_num_threads(rollout_threads(config))
    seeds = [seed for each in configs for seed in environment_seeds(each.seed, 0, each.num_envs, TRAINING)]
    device = device_of(config, Rank())
    with private_generators(seeds[0]):
        made = WarpEnv(config.env, seeds, mapping=action_mapping(config.env), device=device)
    with closing(made) as env, quiet_lightning():
        policies = []
        for each in configs:
            pl.seed_everything(each.seed, verbose=False)
            policies.append(build_policy(each, env, device))
        yield env, policies


def _asking(handlers: Sequence[Callable[[int, FrameType | None], None]]) -> Callable[[int, FrameType | None], None]:
    def on_signal(number: int, frame: FrameType | None) -> None:
        for handler in handlers:
            handler(number, frame)

    return on_signal


def _result(member: _Member) -> RunResult:
    config, recorder = member.module.config, member.recorder
    if config.logger.register and recorder.tracking_uri:
        register_best(config, member.files, config.logger.register, recorder.tracking_uri)
    return result_of(member.module, recorder, member.files, 0, member.seconds, pruned=False)


# --- logs ------------------------------------------------------------------------------------------------------------


class _OwnLog(logging.Filter):
    """Let a run's file have what is said of all runs, and of this one; not what is said of another."""

    _speaking: _OwnLog | None = None

    def filter(self, _record: logging.LogRecord) -> bool:
        return _OwnLog._speaking in (None, self)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """What is said inside the block is of this run."""
        _OwnLog._speaking = self
        try:
            yield
        finally:
            _OwnLog._speaking = None


@contextmanager
def _logs_of(folders: Sequence[Path]) -> Iterator[list[_OwnLog]]:
    """Write the log of every run to its folder; that of the first has a handler already, where Hydra made one."""
    root = logging.getLogger()
    handlers = [handler for handler in root.handlers if isinstance(handler, RunLog)]
    logs, added = [_OwnLog() for _ in folders], []
    for handler in handlers:
        handler.addFilter(logs[0])
        for own, folder in zip(logs[1:], folders[1:], strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            other = RunLog(folder / Path(handler.baseFilename).name, delay=True)
            other.setFormatter(handler.formatter)
            other.addFilter(own)
            root.addHandler(other)
            added.append(other)
    try:
        yield logs
    finally:
        for handler in handlers:
            handler.removeFilter(logs[0])
        for other in added:
            root.removeHandler(other)
            other.close()
