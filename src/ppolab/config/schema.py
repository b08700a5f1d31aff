"""Define every setting in one place: the dataclasses that Hydra fills from conf/.

A field carries its name, its type and, as metadata, its rule, its words and its effect on a run (`setting`). The files
in conf/ hold its default; the comment beside it there repeats the words, and a test compares the two. To add a setting,
write a field here, its default in conf/, and the code that reads it.

`loading.from_hydra` is the one edge where a configuration becomes a checked `Config`. Nothing changes a `Config`
afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from ppolab.config.algorithms import algorithm_names, defaults_of, own_names
from ppolab.config.command_schema import EvaluateConfig, ExportConfig
from ppolab.config.files import option_defaults, options_of
from ppolab.config.rules import (
    BELOW_ONE,
    CLOSED_UNIT,
    NOT_NEGATIVE,
    OPEN_UNIT,
    POSITIVE,
    SEED,
    TWO_OR_MORE,
    Range,
)
from ppolab.config.setting import (
    COMPUTATION,
    EVALUATION,
    EXECUTION,
    LENGTH,
    LIMIT,
    METHOD,
    RECORDING,
    SEED_OF_RUN,
    TASK,
    UPDATE,
    Effect,
    setting,
    settings_of,
)

CONFIG_FILE = "config.yaml"


@dataclass
class EnvConfig:
    """Which environment, and what steps it."""

    id: str = setting("a Gymnasium or EnvPool id, my_package:MyEnv-v0, or mjlab:TASK")
    backend: str = setting(
        "what steps it; auto: EnvPool where it has the environment; warp: MuJoCo's tasks on a GPU",
        "auto",
        choices=("auto", "envpool", "gymnasium", "warp"),
    )
    kwargs: dict[str, Any] = setting("arguments of the environment, as env.kwargs.NAME=VALUE", {})
    vectorization: str = setting(
        "gymnasium: all environments in this process, or each in one of its own", "sync", choices=("sync", "async")
    )
    num_threads: int = setting("threads of EnvPool; 0: one per processor core", 0, rule=NOT_NEGATIVE, effect=EXECUTION)
    timeout: float = setting(
        "seconds that a step may take before the run is given up; 0: any time", 300.0, rule=NOT_NEGATIVE, effect=LIMIT
    )
    stagger: bool = setting(
        "first episodes are cut at different lengths, so that not all environments end together", True
    )
    rescale_actions: bool = setting(
        "the policy's [-1, 1] stands for the bounds of the actions, where these are finite", True
    )
    squash_actions: bool = setting("actions pass through tanh, instead of being clipped to the bounds", False)
    wrappers: list[str] = setting(
        "Gymnasium wrappers of your own, each my_package:MyWrapper, the first one innermost", []
    )
    frame_stack: int | None = setting(
        "the last so many observations are seen together, images in their channels; null: one", None, rule=POSITIVE
    )
    action_mask: str = setting(
        "auto: actions that the environment's mask forbids are never taken; off: the mask is not looked for",
        "auto",
        choices=("auto", "off"),
    )
    log_info: list[str] = setting("entries of the environment's info that become metrics, as env/NAME", [])


@dataclass
class ModelConfig:
    """The actor-critic network."""

    hidden_sizes: list[int] = setting("units of each hidden layer", rule=Range(">= 1"))
    actor_sizes: list[int] | None = setting(
        "units of the actor's hidden layers; null: hidden_sizes", None, rule=Range(">= 1")
    )
    critic_sizes: list[int] | None = setting(
        "units of the critic's hidden layers; null: hidden_sizes", None, rule=Range(">= 1")
    )
    activation: str = setting("what follows each hidden layer", choices=("tanh", "relu", "elu", "gelu", "silu"))
    trunk: str = setting(
        "separate: the critic has hidden layers of its own; shared: one trunk, two heads",
        choices=("separate", "shared"),
    )
    dropout: float = setting("share of hidden units dropped while updating; acting never drops", rule=BELOW_ONE)
    orthogonal: bool = setting("orthogonal initial weights with the usual gains; false: PyTorch's default")
    initial_log_std: float = setting(
        "log standard deviation of continuous actions at the start", rule=Range(">= -10, <= 10")
    )
    state_dependent_std: bool = setting(
        "a second half of the action head gives the log standard deviations; false: they are parameters of their own",
        False,
    )

    encoder: Any = setting(
        "what reads images: nature: the convolutions of Mnih et al. 2015; impala: the residual network of "
        "Espeholt et al. 2018; impoola: the same, averaged over the pixels; minigrid: for cells of "
        "categories; small: kernels of 3 x 3; halving: the same, halving rows and columns; my_package:MyEncoder: one "
        "of your own; null: nature, or small or halving for fewer rows or columns. As model.encoder.NAME: what reads "
        "the image of that name",
        None,
    )
    network: str | None = setting(
        "a network of your own in place of encoder and hidden layers, as my_package:MyNetwork; null: the layers above",
        None,
    )
    kwargs: dict[str, Any] = setting("arguments of your own network or encoder, as model.kwargs.NAME=VALUE", {})
    memory: str = setting(
        "recurrent layers before the heads, which remember the episode so far: gru or lstm", "none",
        choices=("none", "gru", "lstm"),
    )  # fmt: skip
    memory_size: int = setting("units of each of its layers", 128, rule=POSITIVE)
    memory_layers: int = setting("how many recurrent layers, one after another", 1, rule=POSITIVE)

    @property
    def has_memory(self) -> bool:
        """Whether the policy is recurrent."""
        return self.memory != "none"

    @property
    def encoders(self) -> dict[str, Any]:
        """What reads images, by the setting that says so: for all of them, or for one as model.encoder.NAME."""
        if isinstance(self.encoder, Mapping):
            return flattened(self.encoder, "model.encoder.")
        return {"model.encoder": self.encoder}

    @property
    def is_own(self) -> bool:
        """Whether a network or an encoder is the user's own, as MODULE:NAME."""
        return self.network is not None or any(":" in str(name) for name in self.encoders.values())

    @property
    def sizes_of_actor(self) -> list[int]:
        """Units of the hidden layers that lead to the action head."""
        return self.hidden_sizes if self.actor_sizes is None else self.actor_sizes

    @property
    def sizes_of_critic(self) -> list[int]:
        """Units of the hidden layers that lead to the value head."""
        return self.hidden_sizes if self.critic_sizes is None else self.critic_sizes


@dataclass
class OptimizerSettings:
    """What optimizers share. An optimizer's file in conf/optimizer/ may set others, too."""

    _target_: str = setting("a class in torch.optim, or one of your own as my_package:MyOptimizer")
    lr: float = setting("learning rate", rule=POSITIVE, effect=UPDATE)
    betas: tuple[float, float] = setting(
        "how slowly the running means of the gradient and of its square forget", rule=BELOW_ONE
    )
    alpha: float = setting("how slowly the running mean of the squared gradient forgets", rule=BELOW_ONE)
    momentum: float = setting("share of the last step that is made again", rule=BELOW_ONE)
    nesterov: bool = setting("look ahead along the momentum")
    eps: float = setting("added to the divisor of a step", rule=POSITIVE)
    weight_decay: float = setting("pull of the parameters towards 0", rule=NOT_NEGATIVE)
    fused: bool = setting("PyTorch's fastest implementation; the numbers are the same")


@dataclass
class TrainerConfig:
    """What the training runs on."""

    accelerator: str = setting(
        "what updates the network; auto: a GPU where there is one", choices=("cpu", "gpu", "auto"), effect=COMPUTATION
    )
    devices: int = setting(
        "processes that train together, each with num_envs environments; see ddp.yaml", rule=POSITIVE
    )
    num_nodes: int = setting("machines that train together; see ddp.yaml", rule=POSITIVE)
    precision: str = setting(
        "in which trainings compute layers before the heads; bf16: faster for images where the hardware has it",
        "fp32",
        choices=("fp32", "bf16"),
        effect=COMPUTATION,
    )
    threads: int = setting(
        "0: updates use two threads where there are two cores, and all cores for images; all else one; N: N for both",
        rule=NOT_NEGATIVE,
        effect=COMPUTATION,
    )


@dataclass
class ExplorationConfig:
    """How the actions of rollouts are drawn."""

    noise_color: float = setting(
        "noise of continuous actions, whose power falls as frequency to the power of minus this; 0: independent at "
        "every step, 1: pink",
        0.0,
        rule=Range(">= 0, <= 2"),
    )
    final_log_std: float | None = setting(
        "the log standard deviation of continuous actions is at most what falls linearly over the run from "
        "model.initial_log_std to this; null: no bound",
        None,
        rule=Range(">= -10, <= 10"),
    )


@dataclass
class LoggerConfig:
    """Where runs are recorded."""

    kind: str = setting(
        "tensorboard: MLflow, and event files for TensorBoard; none: metrics.csv, checkpoints and the plot in the "
        "run's folder only",
        choices=("mlflow", "tensorboard", "none"),
    )
    tracking_uri: str | None = setting("null: MLFLOW_TRACKING_URI, else the file outputs/mlflow.db", None)
    experiment: str = setting("name of the MLflow experiment")
    run_name: str | None = setting("null: environment and seed", None)
    video: bool = setting("record one evaluation episode when the run ends")
    register: str | None = setting(
        "the best policy becomes a version of this registered model of MLflow when the run ends; null: of none", None
    )


@dataclass
class Config:
    """One training run."""

    env: EnvConfig = setting("the environment", effect=TASK)
    model: ModelConfig = setting("the network")
    optimizer: dict[str, Any] = setting("how the parameters are stepped")
    algorithm: dict[str, Any] = setting("what a rollout becomes")
    trainer: TrainerConfig = setting("what the training runs on")
    exploration: ExplorationConfig = setting("how actions are drawn", ExplorationConfig)
    logger: LoggerConfig = setting("where runs are recorded", effect=RECORDING)
    seed: int = setting(
        "of the first weights, the environments, the actions and the minibatches", rule=SEED, effect=SEED_OF_RUN
    )
    total_steps: int = setting("environment steps over all processes", rule=POSITIVE, effect=LENGTH)
    num_envs: int = setting("environments per process", rule=POSITIVE)
    rollout_steps: int = setting(
        "per environment and iteration; a batch is num_envs * rollout_steps transitions", rule=TWO_OR_MORE
    )
    epochs: int = setting("passes over a batch", rule=POSITIVE, effect=UPDATE)
    minibatch_size: int = setting(
        "transitions of one gradient step; divides the batch", rule=TWO_OR_MORE, effect=UPDATE
    )
    sequence_length: int = setting(
        "steps that a policy with memory is trained on together; a rollout is cut into sequences of so many", 16,
        rule=POSITIVE,
    )  # fmt: skip
    clip: float = setting("the probability ratio is clipped to [1 - clip, 1 + clip]", rule=OPEN_UNIT, effect=UPDATE)
    target_kl: float | None = setting(
        "an update ends once the mean KL of 512 samples exceeds 1.5 times this, and above 10 times (and 0.2) "
        "those steps are rolled back; null: never early",
        None,
        rule=POSITIVE,
        effect=UPDATE,
    )
    gamma: float = setting("discount of rewards per step", rule=CLOSED_UNIT, effect=UPDATE)
    gae_lambda: float = setting(
        "decay of the advantage estimate; 0: one step's temporal difference, 1: the whole return",
        rule=CLOSED_UNIT,
        effect=UPDATE,
    )
    value_coef: float = setting("weight of the value loss", rule=NOT_NEGATIVE, effect=UPDATE)
    entropy_coef: float = setting("weight of the bonus for entropy of the policy", rule=NOT_NEGATIVE, effect=UPDATE)
    entropy_schedule: str | None = setting(
        "what entropy_coef is multiplied by over the run: linear, constant, or a function of your own, "
        "my_package:my_schedule; null: constant",
        None,
    )
    max_grad_norm: float = setting(
        "the gradient is scaled down to this norm; 0: do not clip the gradient", rule=NOT_NEGATIVE, effect=UPDATE
    )
    anneal_lr: bool = setting("learning rate falls linearly to 0")
    lr_schedule: str | None = setting(
        "what optimizer.lr is multiplied by over the run: linear, constant, or a function of your own, "
        "my_package:my_schedule; null: what anneal_lr says",
        None,
    )
    adapt_lr: bool = setting(
        "learning rate follows the KL: divided by 1.5 after an update whose KL was above 2 target_kl, times 1.5 "
        "if below target_kl / 2",
        False,
    )
    normalize_observations: bool = setting("scale observations by their running mean and deviation")
    normalize_rewards: bool = setting("divide rewards by the running deviation of the discounted return")
    normalize_values: bool = setting("the value function learns returns with mean 0 and deviation 1", False)
    normalize_advantages: bool = setting(
        "scale advantages per minibatch; scaled rewards already give them a common size"
    )
    recompute_advantages: bool = setting("compute advantages anew before every epoch, with the current value function")
    compile: str = setting(
        "update in C++, or by PyTorch's compiler when the run is long enough to earn its seconds; true: however "
        "short; false: neither",
        choices=("auto", "true", "false"),
        effect=COMPUTATION,
    )
    eval_interval: int | None = setting(
        "environment steps between evaluations; 0: only at the end; null: a fifth of total_steps, from 10000 to 100000",
        None,
        rule=NOT_NEGATIVE,
        effect=EVALUATION,
    )
    eval_episodes: int = setting("episodes of an evaluation", rule=POSITIVE, effect=EVALUATION)
    checkpoint_interval: int = setting(
        "environment steps between checkpoints; 0: only at the end", rule=NOT_NEGATIVE, effect=EXECUTION
    )
    keep_checkpoints: int = setting(
        "how many, the last ones; if one cannot be read, a resumed run goes on from the one before it",
        rule=POSITIVE,
        effect=EXECUTION,
    )
    objective: str = setting("the metric a run hands to a sweep; several with commas between", effect=EXECUTION)
    callbacks: list[str] = setting(
        "Lightning callbacks of your own, each my_package:MyCallback: a class without arguments, or an instance",
        [],
        effect=EXECUTION,
    )
    progress: str = setting(
        "what the terminal shows while training; full: a line of return, losses, KL and entropy every two seconds, too",
        "bar",
        choices=("bar", "full", "off"),
        effect=RECORDING,
    )
    resume: str | None = setting(
        "the run to go on with, as run= of evaluate.py takes it; auto: the last unfinished run with this configuration",
        None,
        effect=RECORDING,
    )
    rerun: str | None = setting(
        "a run to make again from its own settings, in a new folder, and to compare with it", None, effect=RECORDING
    )
    init_from: str | None = setting(
        "a run whose policy and value function this one starts from, as run= of evaluate.py takes it; a folder is its "
        "best checkpoint",
        None,
    )

    @property
    def rate_schedule(self) -> str:
        """What the learning rate follows: `lr_schedule`, or what `anneal_lr` stands for."""
        return self.lr_schedule or ("linear" if self.anneal_lr else "constant")

    @property
    def steps_between_evaluations(self) -> int:
        """`eval_interval`; where it is null, what stands for it, which a checked configuration holds in its place."""
        return min(100_000, max(10_000, self.total_steps // 5)) if self.eval_interval is None else self.eval_interval

    @property
    def world_size(self) -> int:
        """How many train together: one per device."""
        return self.trainer.devices * self.trainer.num_nodes

    @property
    def batch_size(self) -> int:
        """Transitions per iteration over all processes, rows that only reset an environment included."""
        return self.num_envs * self.rollout_steps * self.world_size

    @property
    def max_iterations(self) -> int:
        """No run needs more iterations than this: at worst every second row only resets an environment."""
        return 2 * math.ceil(self.total_steps / self.batch_size) + 1


def register_schemas() -> None:
    """Give Hydra the schemas that the files of conf/ for train, evaluate and export name in their defaults."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="export_schema", node=ExportConfig)


def flattened(config: object, prefix: str = "") -> dict[str, Any]:
    """Return every setting under its dotted name: {"env.id": ..., "optimizer.lr": ...}."""
    items = vars(config).items() if is_dataclass(config) else config.items()  # type: ignore[attr-defined]
    result: dict[str, Any] = {}
    for key, value in items:
        if is_dataclass(value) or (isinstance(value, Mapping) and value):
            result |= flattened(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def effect_of(key: str) -> Effect:
    """Return what a change of the setting `key` makes of a run.

    A name that the schema does not have takes its group's effect: `env.kwargs.size`, `optimizer.lr`, or a setting of
    another version of this program.
    """
    known = settings_of(Config)
    while key and key not in known:
        key = key.rpartition(".")[0]
    return known[key].effect if key else METHOD


def may_be_perturbed(key: str) -> bool:
    """Return whether a run may go on from a checkpoint with another value of the setting `key`."""
    group, _, name = key.partition(".")
    if group == "optimizer" and name in settings_of(OptimizerSettings):
        return settings_of(OptimizerSettings)[name].effect.perturbed
    return effect_of(key).perturbed


def perturbed_keys() -> list[str]:
    """Return the settings that may be perturbed."""
    return [key for key in [*settings_of(Config), "optimizer.lr"] if may_be_perturbed(key)]


def known_keys(schema: type) -> Iterator[str]:
    """Yield the dotted names that a schema has, for suggestions; optimizers and algorithms have more."""
    yield from settings_of(schema)


def option_keys() -> Iterator[str]:
    """Yield the dotted names of the settings that optimizers and algorithms have; reads all of their files."""
    optimizers = {key for name in options_of("optimizer") for key in flattened(option_defaults("optimizer", name))}
    algorithms = {key for name in (*algorithm_names(), *own_names()) for key in defaults_of(name)}
    yield from (f"optimizer.{key}" for key in sorted(optimizers))
    yield from (f"algorithm.{key}" for key in sorted(algorithms))
