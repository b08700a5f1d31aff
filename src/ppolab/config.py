"""The typed configuration: its schema, its checks, and the counts that follow from it.

`conf/` fills these classes through Hydra; `from_hydra` is the one edge where a configuration becomes a checked
`Config`. Nothing changes a `Config` afterwards.
"""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ppolab.errors import ConfigError, nearest
from ppolab.family import algorithm_names, check_algorithm, defaults_of, metrics_of, numbers_as_their_defaults, reads
from ppolab.redaction import redacted
from ppolab.rules import CHOICES, METRICS, RULES

CONFIG_FILE = "config.yaml"
OPTIMIZER_NAMESPACE = "torch.optim."
CORES = "PPOLAB_CORES"
"""Environment variable: how many processor cores a run of a sweep may use."""
SWEEP_GROUPS = ("search", "sampler", "pruner")
"""Groups that only a sweep heeds."""
TRIAL = "PPOLAB_TRIAL"
"""Environment variable of the runs of a study; `ppolab.study.child` writes and reads it."""


@dataclass
class EnvConfig:
    """Which environment, and what steps it."""

    id: str = MISSING
    backend: str = "auto"
    kwargs: dict[str, Any] = field(default_factory=dict)
    vectorization: str = "sync"
    num_threads: int = 0
    timeout: float = 300.0
    stagger: bool = True
    rescale_actions: bool = True
    squash_actions: bool = False


@dataclass
class ModelConfig:
    """The actor-critic network."""

    hidden_sizes: list[int] = MISSING
    activation: str = MISSING
    trunk: str = MISSING
    dropout: float = MISSING
    orthogonal: bool = MISSING
    initial_log_std: float = MISSING
    state_dependent_std: bool = False


@dataclass
class TrainerConfig:
    """What the training runs on."""

    accelerator: str = MISSING
    devices: int = MISSING
    num_nodes: int = MISSING
    threads: int = MISSING


@dataclass
class LoggerConfig:
    """Where runs are recorded."""

    kind: str = MISSING
    tracking_uri: str | None = None
    experiment: str = MISSING
    run_name: str | None = None
    video: bool = MISSING


@dataclass
class Config:
    """One training run. conf/config.yaml holds the defaults and a line on each setting."""

    env: EnvConfig = MISSING
    model: ModelConfig = MISSING
    optimizer: dict[str, Any] = MISSING
    algorithm: dict[str, Any] = MISSING
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    seed: int = MISSING
    total_steps: int = MISSING
    num_envs: int = MISSING
    rollout_steps: int = MISSING
    epochs: int = MISSING
    minibatch_size: int = MISSING
    clip: float = MISSING
    target_kl: float | None = None
    gamma: float = MISSING
    gae_lambda: float = MISSING
    value_coef: float = MISSING
    entropy_coef: float = MISSING
    max_grad_norm: float = MISSING
    anneal_lr: bool = MISSING
    adapt_lr: bool = False
    normalize_observations: bool = MISSING
    normalize_rewards: bool = MISSING
    normalize_values: bool = False
    normalize_advantages: bool = MISSING
    recompute_advantages: bool = MISSING
    compile: str = MISSING
    eval_interval: int = MISSING
    eval_episodes: int = MISSING
    checkpoint_interval: int = MISSING
    keep_checkpoints: int = MISSING
    objective: str = MISSING
    resume: str | None = None

    @property
    def processes(self) -> int:
        """How many train together: one per device."""
        return self.trainer.devices * self.trainer.num_nodes

    @property
    def batch_size(self) -> int:
        """Transitions per iteration over all processes, rows that only reset an environment included."""
        return self.num_envs * self.rollout_steps * self.processes

    @property
    def max_iterations(self) -> int:
        """No run needs more iterations than this: at worst every second row only resets an environment."""
        return 2 * math.ceil(self.total_steps / self.batch_size) + 1


@dataclass
class EvaluateConfig:
    """One call of src/evaluate.py."""

    run: str = MISSING
    episodes: int = 10
    seed: int = 0
    checkpoint: str = "best"
    video: bool = True


def register_schemas() -> None:
    """Give Hydra the schemas that conf/config.yaml and conf/evaluate.yaml name in their defaults."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="evaluate_schema", node=EvaluateConfig)


def from_hydra(node: DictConfig) -> Config:
    """A checked Config.

    Raises:
        ConfigError: a value has the wrong type, breaks a rule, or does not go with another.
    """
    config = typed(node)
    check(config)
    return config


def typed(node: DictConfig) -> Config:
    """A Config of known keys and right types, whose values are not checked yet."""
    _refuse_unknown(node)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), node))
    except OmegaConfBaseException as error:
        raise ConfigError(type_problem(error)) from error
    assert isinstance(config, Config)
    return replace(config, algorithm=numbers_as_their_defaults(config.algorithm))


def _refuse_unknown(node: DictConfig) -> None:
    """`+key=value` can append what no code reads; a mistyped key must not pass that way."""
    known = set(known_keys(Config))
    for key in flattened(OmegaConf.to_container(node)):
        if key not in known and not key.startswith(("optimizer.", "algorithm.", "env.kwargs")):
            raise ConfigError(f"{key}: no such setting{nearest(key, known)}")


def type_problem(error: OmegaConfBaseException) -> str:
    """One line about a value of the wrong type or a missing one."""
    key = getattr(error, "full_key", None) or "configuration"
    reason = str(error).splitlines()[0]
    if reason.endswith("is not Optional"):
        return f"{key}=null: must have a value"
    match = re.search(r"Value '(.*)' (?:of type '.*' could not be converted to|is not a valid) (\w+)", reason)
    if match is None:
        return f"{key}: {reason}"
    value, kind = match.groups()
    return f"{key}={value}: must be {TYPE_WORDS.get(kind, kind)}{_whole_number_hint(key, value, kind)}"


TYPE_WORDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}


def _whole_number_hint(key: str, value: str, kind: str) -> str:
    try:
        return f"; write {key}={int(float(value))}" if kind == "Integer" else ""
    except (ValueError, OverflowError):
        return ""


def check(config: Config) -> None:
    """Raise ConfigError for the first setting that breaks a rule."""
    values = flattened(config)
    for key, rule in RULES.items():
        value = values.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key}={value}: must be a number")
        if not rule.holds(value):
            raise ConfigError(f"{key}={value}: {rule.words}")
    for key, choices in CHOICES.items():
        value = str(values.get(key)).lower() if key == "compile" else str(values.get(key))
        if value not in choices:
            raise ConfigError(f"{key}={values.get(key)}: must be one of {', '.join(choices)}{nearest(value, choices)}")
    _check_objective(config)
    _check_model(config.model)
    _check_optimizer(config.optimizer)
    _check_schedule(config)
    if config.env.squash_actions and not config.env.rescale_actions:
        raise ConfigError("env.squash_actions=true: leaves [-1, 1] to be rescaled; set env.rescale_actions=true")
    check_algorithm(config.algorithm, values.get)
    _check_batch(config)


def _check_objective(config: Config) -> None:
    known = run_metrics(config)
    for name in objective_names(config):
        if name not in known:
            raise ConfigError(
                f"objective={config.objective}: {name or 'nothing'} is no metric{nearest(name, known)}; name one, or "
                f"several with commas between, of {', '.join(known)}"
            )


def _check_model(model: ModelConfig) -> None:
    if any(size < 1 for size in model.hidden_sizes):
        raise ConfigError(f"model.hidden_sizes={model.hidden_sizes}: every size must be 1 or more")
    if model.dropout > 0 and not model.hidden_sizes:
        raise ConfigError(f"model.dropout={model.dropout}: there is no hidden layer to drop from; set model.dropout=0")


def _check_optimizer(optimizer: Mapping[str, Any]) -> None:
    target = optimizer.get("_target_")
    if not isinstance(target, str) or not target.startswith(OPTIMIZER_NAMESPACE):
        raise ConfigError(f"optimizer._target_={target}: must name a class in torch.optim, such as torch.optim.Adam")
    if "lr" not in optimizer:
        raise ConfigError("optimizer.lr: is missing; every optimizer needs a learning rate, such as 3e-4")
    betas = optimizer.get("betas", (0.9, 0.999))
    if len(betas) != 2 or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas):
        raise ConfigError(f"optimizer.betas={betas}: must be two numbers of at least 0 and less than 1")


def _check_schedule(config: Config) -> None:
    if not reads(config.algorithm, "adapt_lr"):
        return
    if config.adapt_lr and config.anneal_lr:
        raise ConfigError("adapt_lr=true: the learning rate cannot also fall linearly; set anneal_lr=false")
    if config.adapt_lr and config.target_kl is None:
        raise ConfigError("adapt_lr=true: follows target_kl, which is null; set it, such as target_kl=0.01")


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
    if config.batch_size > config.total_steps:
        raise ConfigError(
            f"total_steps={config.total_steps}: must be at least one batch, {batch}; raise it, or lower one of these"
        )


def objective_names(config: Config) -> tuple[str, ...]:
    """The metrics that `objective` names."""
    return tuple(name.strip() for name in config.objective.split(","))


def flattened(config: object, prefix: str = "") -> dict[str, Any]:
    """{"env.id": ..., "optimizer.lr": ...}: every setting under its dotted name."""
    items = vars(config).items() if is_dataclass(config) else config.items()  # type: ignore[attr-defined]
    result: dict[str, Any] = {}
    for key, value in items:
        if is_dataclass(value) or (isinstance(value, Mapping) and value):
            result |= flattened(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def known_keys(schema: type[object], prefix: str = "") -> Iterator[str]:
    """The dotted names a schema has, for suggestions."""
    hints = get_type_hints(schema)
    for item in fields(schema):  # type: ignore[arg-type]
        yield prefix + item.name
        if is_dataclass(hints[item.name]):
            yield from known_keys(hints[item.name], f"{prefix}{item.name}.")
    if schema is Config:
        yield from ("optimizer.lr", "optimizer.betas", "optimizer.eps", "optimizer.weight_decay", "optimizer.momentum")


def algorithm_keys() -> Iterator[str]:
    """The dotted names of the settings that algorithms have; reads all of their files."""
    settings = {key for name in algorithm_names() for key in defaults_of(name)}
    yield from (f"algorithm.{key}" for key in sorted(settings))


def run_metrics(config: Config) -> tuple[str, ...]:
    """Every metric that a run of `config` may log."""
    return (*METRICS, *metrics_of(config.algorithm["name"]))


def metric_names() -> tuple[str, ...]:
    """Every metric that a run of any algorithm may log; reads all of their files."""
    return (*METRICS, *(metric for name in algorithm_names() for metric in metrics_of(name)))


def to_yaml(config: Config) -> str:
    """The whole configuration as YAML, without passwords; `from_yaml` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.create(redacted(OmegaConf.to_container(OmegaConf.structured(config)))))


def from_yaml(text: str) -> Config:
    """The Config that `to_yaml` wrote; raises ConfigError when it is not one."""
    try:
        node = OmegaConf.create(text)
    except Exception as error:  # YAML's families
        raise ConfigError(f"{CONFIG_FILE}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{CONFIG_FILE}: holds no configuration")
    return from_hydra(node)


def optimizer_class(config: Config) -> Callable[..., Any]:
    """The class that `optimizer._target_` names; raises ConfigError when torch.optim has no optimizer of that name."""
    target = str(config.optimizer["_target_"])
    optimizers = importlib.import_module("torch.optim")
    found = vars(optimizers).get(target.removeprefix(OPTIMIZER_NAMESPACE))
    if isinstance(found, type) and issubclass(found, optimizers.Optimizer):
        return found
    name = target.rpartition(".")[2]
    raise ConfigError(f"optimizer._target_={target}: there is no such class{nearest(name, vars(optimizers))}")


def usable_cores() -> int:
    """Processor cores that this process may use; what a setting of 0 threads stands for.

    A sweep divides the machine's among its workers, and tells them in the variable `CORES`.
    """
    if os.environ.get(CORES, "").isdigit():
        return max(1, int(os.environ[CORES]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
