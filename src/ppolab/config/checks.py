"""Check the rules that a configuration must keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ppolab.config.algorithms import check_algorithm, check_schedule_name, ranges_of, reads
from ppolab.config.files import option_defaults, options_of
from ppolab.config.metrics import objective_names, run_metrics
from ppolab.config.optimizers import OPTIMIZER_NAMESPACE, UNUSABLE, class_name, is_own
from ppolab.config.rules import KIND_WORDS, Range, is_a
from ppolab.config.schema import Config, EnvConfig, ModelConfig, OptimizerSettings, flattened
from ppolab.config.setting import settings_of
from ppolab.errors import ConfigError, nearest, spelled

ENCODERS = ("nature", "impala", "impoola", "minigrid", "small", "halving")
"""The shipped networks that read images."""
MOST_FRAMES = 100
"""Of `env.frame_stack`: a rollout stores so many numbers, of four bytes, for each number of a vector."""
INFO_NAME = re.compile(r"[\w./-]+")
"""What MLflow takes as part of a metric's name, without blanks."""


def check(config: Config) -> None:
    """Raise ConfigError for the first setting that breaks a rule."""
    _refuse_two_networks(config.model)
    check_values(config)
    values = flattened(config)
    check_algorithm(config.algorithm, values.get)
    _check_objective(config)
    _check_model(config.model)
    _check_optimizer(config.optimizer)
    _check_schedule(config)
    _check_final_deviation(config)
    _check_hooks(config.env)
    if config.env.squash_actions and not config.env.rescale_actions:
        raise ConfigError("env.squash_actions=true: leaves [-1, 1] to be rescaled; set env.rescale_actions=true")
    _check_batch(config)
    _check_frames(config)
    if config.logger.register is not None:
        check_model_name("logger.register", config.logger.register)
        if config.logger.kind == "none":
            raise ConfigError(f"logger.register={config.logger.register}: needs MLflow; set logger=mlflow")


def check_model_name(key: str, name: str) -> None:
    """Raise ConfigError for what MLflow takes for no name of a registered model."""
    if not name.strip() or {"/", ":"} & set(name):
        raise ConfigError(f"{key}={name}: must be a name without / and :, such as {key}=hopper")


def check_values(config: Any) -> None:
    """Raise ConfigError for the first value that breaks the rule in its field's metadata.

    Args:
        config: a dataclass whose fields are settings.
    """
    values = flattened(config)
    schema: type = type(config)
    for key, described in settings_of(schema).items():
        problem = None if described.is_group else described.problem(values.get(key))
        if problem:
            raise ConfigError(f"{key}={spelled(values[key])}: {problem}")


def range_of(key: str, algorithm: str) -> Range | None:
    """Return the range that the setting `key` has in a run of `algorithm`; None for one without."""
    group, _, name = key.partition(".")
    if group == "algorithm":
        return ranges_of(algorithm).get(name)
    described = settings_of(OptimizerSettings).get(name) if group == "optimizer" else settings_of(Config).get(key)
    return described.setting.rule if described else None


def _check_objective(config: Config) -> None:
    known = run_metrics(config)
    for name in objective_names(config):
        if name not in known:
            raise ConfigError(
                f"objective={config.objective}: {name or 'nothing'} is no metric{nearest(name, known)}; name one, or "
                f"several with commas between, of {', '.join(known)}"
            )


def _refuse_two_networks(model: ModelConfig) -> None:
    """Answer those who know `[[64, 64], [256]]` for actor and critic from elsewhere."""
    sizes: list[Any] = list(model.hidden_sizes)
    if any(isinstance(part, list) for part in sizes):
        given = [part if isinstance(part, list) else [part] for part in sizes]
        actor, critic = (str(part).replace(" ", "") for part in (given[0], given[-1]))
        raise ConfigError(
            f"model.hidden_sizes={model.hidden_sizes}: must be a list of whole numbers; for an actor and a critic of "
            f"different sizes, write model.actor_sizes={actor} model.critic_sizes={critic}"
        )


def _check_hooks(env: EnvConfig) -> None:
    if env.wrappers and env.backend in ("envpool", "warp"):
        others = "EnvPool's" if env.backend == "envpool" else "mujoco-warp's"
        raise ConfigError(
            f"env.wrappers=[{','.join(env.wrappers)}]: wrap environments of Gymnasium, not {others}; set "
            "env.backend=gymnasium"
        )
    for name in env.log_info:
        if not INFO_NAME.fullmatch(name):
            raise ConfigError(f"env.log_info=[{name}]: must be letters, digits and any of _ - . / ; leave it out")
        if env.log_info.count(name) > 1:
            raise ConfigError(f"env.log_info=[{','.join(env.log_info)}]: names {name} twice; leave one out")


def _check_model(model: ModelConfig) -> None:
    _check_encoders(model)
    _check_own_network(model)
    for key in ("actor_sizes", "critic_sizes"):
        if model.trunk == "shared" and getattr(model, key) is not None:
            raise ConfigError(
                f"model.{key}={getattr(model, key)}: a shared trunk has one size, model.hidden_sizes; set "
                "model.trunk=separate, or leave it out"
            )
    if model.dropout > 0 and not (model.sizes_of_actor or model.sizes_of_critic):
        raise ConfigError(f"model.dropout={model.dropout}: there is no hidden layer to drop from; set model.dropout=0")


def _check_encoders(model: ModelConfig) -> None:
    for key, name in model.encoders.items():
        if name is not None and name not in ENCODERS and ":" not in str(name):
            raise ConfigError(
                f"{key}={spelled(name)}: must be one of {', '.join(ENCODERS)}, or one of your own, such as "
                f"model.encoder=my_package:MyEncoder{nearest(str(name), ENCODERS)}"
            )


def _check_own_network(model: ModelConfig) -> None:
    if model.network is None:
        if model.kwargs and not model.is_own:
            raise ConfigError(
                f"model.kwargs={model.kwargs}: are the arguments of a network of your own; name it, such as "
                "model.network=my_package:MyNetwork, or leave them out"
            )
        return
    shipped = option_defaults("model", "mlp")
    for key in ("hidden_sizes", "actor_sizes", "critic_sizes", "activation", "dropout", "encoder"):
        if getattr(model, key) != shipped[key]:
            raise ConfigError(
                f"model.{key}={spelled(getattr(model, key))}: is about the shipped network, and model.network="
                f"{model.network} takes its place; leave it out, or hand it over as model.kwargs.NAME=VALUE"
            )


def _check_optimizer(optimizer: Mapping[str, Any]) -> None:
    target = optimizer.get("_target_")
    if target is None:
        raise ConfigError("optimizer=own: needs a class, such as optimizer.class=my_package:MyOptimizer")
    if not isinstance(target, str) or not (target.startswith(OPTIMIZER_NAMESPACE) or is_own(target)):
        raise ConfigError(
            f"optimizer._target_={target}: must name a class in torch.optim, such as torch.optim.Adam, or one of your "
            "own, such as my_package:MyOptimizer"
        )
    if reason := UNUSABLE.get(class_name(optimizer)):
        raise ConfigError(f"optimizer._target_={target}: cannot train here, since {reason}; use torch.optim.Adam")
    if "lr" not in optimizer:
        raise ConfigError("optimizer.lr: is missing; every optimizer needs a learning rate, such as 3e-4")
    shared = settings_of(OptimizerSettings)
    if is_own(target):  # which gives names such as betas a meaning of its own
        shared = {"lr": shared["lr"]}
    for key, value in optimizer.items():
        problem = shared[key].problem(value) if key in shared else _problem_of_own(target, key, value)
        if problem:
            raise ConfigError(f"optimizer.{key}={spelled(value)}: {problem}")


def _problem_of_own(target: str, key: str, value: Any) -> str | None:
    """What is wrong with a setting that only some optimizers have: it must be of its default's type.

    Whether an optimizer has it, and its range, torch knows.
    """
    files = [option_defaults("optimizer", name) for name in options_of("optimizer")]
    default = next((file[key] for file in files if file.get("_target_") == target and key in file), None)
    kind = type(default)
    return f"must be {KIND_WORDS[kind]}" if kind in KIND_WORDS and not is_a(value, kind) else None


def _check_schedule(config: Config) -> None:
    for key, name in {"lr_schedule": config.lr_schedule, "entropy_schedule": config.entropy_schedule}.items():
        if name is not None:
            check_schedule_name(key, name)
    if config.entropy_schedule is not None and config.entropy_coef == 0.0 and reads(config.algorithm, "entropy_coef"):
        raise ConfigError(
            f"entropy_schedule={config.entropy_schedule}: multiplies entropy_coef, which is 0; set it, such as "
            "entropy_coef=0.01, or leave the schedule out"
        )
    if not reads(config.algorithm, "adapt_lr"):
        return
    if config.adapt_lr and config.lr_schedule not in (None, "constant"):
        raise ConfigError(
            f"adapt_lr=true: the learning rate cannot also follow lr_schedule={config.lr_schedule}; set "
            "lr_schedule=constant, or leave one of them out"
        )
    if config.adapt_lr and config.rate_schedule == "linear":
        raise ConfigError("adapt_lr=true: the learning rate cannot also fall linearly; set anneal_lr=false")
    if config.adapt_lr and config.target_kl is None:
        raise ConfigError("adapt_lr=true: follows target_kl, which is null; set it, such as target_kl=0.01")


def _check_final_deviation(config: Config) -> None:
    final, model = config.exploration.final_log_std, config.model
    if final is None:
        return
    if model.state_dependent_std:
        raise ConfigError(
            f"exploration.final_log_std={final:g}: bounds deviations that are parameters, and those of "
            "model.state_dependent_std=true are the network's answers; leave one of the two out"
        )
    if final > model.initial_log_std:
        raise ConfigError(
            f"exploration.final_log_std={final:g}: must be at most model.initial_log_std={model.initial_log_std:g}, "
            "from which the bound falls; lower it, raise that one, or leave it out"
        )


def _check_batch(config: Config) -> None:
    factors = {"num_envs": config.num_envs, "rollout_steps": config.rollout_steps}
    factors |= {"trainer.devices": config.trainer.devices} if config.trainer.devices > 1 else {}
    factors |= {"trainer.num_nodes": config.trainer.num_nodes} if config.trainer.num_nodes > 1 else {}
    batch = f"{' * '.join(factors)} = {' * '.join(map(str, factors.values()))} = {config.batch_size}"
    in_minibatches = reads(config.algorithm, "minibatch_size")
    if in_minibatches and config.minibatch_size > config.batch_size:
        raise ConfigError(
            f"minibatch_size={config.minibatch_size}: must not exceed the batch, {batch}; lower it, or raise one of "
            "these"
        )
    if in_minibatches and config.batch_size % config.minibatch_size:
        fitting = [size for size in range(2, config.batch_size + 1) if config.batch_size % size == 0]
        best = min(fitting, key=lambda size: abs(size - config.minibatch_size))
        raise ConfigError(
            f"minibatch_size={config.minibatch_size}: must divide the batch, {batch}; "
            f"the nearest that does is minibatch_size={best}"
        )
    if config.model.has_memory:
        _check_sequences(config, in_minibatches=in_minibatches)
    if config.batch_size > config.total_steps:
        raise ConfigError(
            f"total_steps={config.total_steps}: must be at least one batch, {batch}; raise it, or lower one of these"
        )


def _check_frames(config: Config) -> None:
    count, steps = config.env.frame_stack, config.num_envs * config.rollout_steps
    if count is not None and count > MOST_FRAMES:
        raise ConfigError(
            f"env.frame_stack={count}: must be at most {MOST_FRAMES}, since a rollout of {steps} steps would take "
            f"{4 * count * steps / 2**30:.3g} GiB for each number of a vector; lower it, or set model.memory=gru"
        )


def _check_sequences(config: Config, *, in_minibatches: bool) -> None:
    """With memory a minibatch is made of whole sequences."""
    length = min(config.sequence_length, config.rollout_steps)
    if in_minibatches and config.minibatch_size < length:
        raise ConfigError(
            f"minibatch_size={config.minibatch_size}: with memory it must hold at least one sequence, of "
            f"{length} steps; set minibatch_size={length} or more, or sequence_length={config.minibatch_size}"
        )
