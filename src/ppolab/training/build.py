"""Build what one rank trains with, on the device where it stays."""

from __future__ import annotations

import logging

import torch

from ppolab.config.schema import Config, ExplorationConfig
from ppolab.core.distributions import gaussian_size
from ppolab.envs.action_masks import note_on_masks, note_on_other_name
from ppolab.envs.factory import VectorEnv
from ppolab.envs.seeding import seed_global_generators
from ppolab.errors import ConfigError
from ppolab.learning.actor_critic import ActorCritic
from ppolab.learning.algorithms import make_algorithm
from ppolab.learning.epoch import native_threads
from ppolab.learning.flat_parameters import flatten_parameters
from ppolab.learning.gradient import worth_compiling
from ppolab.learning.interface import LearnerContext
from ppolab.learning.memory import note_on_memory
from ppolab.learning.native import native_policy, use_native_convolutions, use_native_recurrence
from ppolab.learning.native.library import instructions
from ppolab.learning.optimizer import make_optimizer
from ppolab.runtime.process_group import ALONE, ProcessGroup
from ppolab.training.collector import Collector
from ppolab.training.measuring import Measuring
from ppolab.training.module import OnPolicyModule
from ppolab.training.pytorch_threads import update_threads
from ppolab.training.random_state import stream_seed

log = logging.getLogger(__name__)


def build_module(
    config: Config, env: VectorEnv, policy: ActorCritic, group: ProcessGroup = ALONE, *, together: bool = False
) -> OnPolicyModule:
    """Return a module that trains `policy` in `env`, which is reset here.

    The policy must already lie on its device: its parameters become views of one vector there.

    Args:
        together: see `LearnerContext`.
    """
    device = policy.value_head.weight.device
    flat = flatten_parameters(policy)
    optimizer = make_optimizer(config, flat)
    actions = torch.Generator(device).manual_seed(stream_seed(config.seed, 0))
    shuffle = torch.Generator().manual_seed(stream_seed(config.seed, 1))
    if group.rank > 0:  # else environments that draw from the global generators are the first rank's twins
        seed_global_generators(config.seed, group.rank)
    collector = Collector(
        env, config.rollout_steps, config.gamma, actions, group,
        stagger=config.env.stagger, log_info=config.env.log_info,
        sequence_length=min(config.sequence_length, config.rollout_steps),
        noise_color=config.exploration.noise_color,
    )  # fmt: skip
    policy.masked = env.masks is not None
    if group.is_first and (note := note_on_masks(env.env_id, env.mask_source, env.masks, env.policy_space)):
        log.info("%s", note)
    told = note_on_other_name(env.env_id, env.observation_space, env.action_space) if env.masked else None
    if group.is_first and told:
        log.warning("%s", told)
    if group.is_first and (note := note_on_memory(config)):
        log.warning("%s", note)
    native = None
    if config.compile.lower() != "false" and not together:
        native = native_policy(policy, flat, native_threads(config))
        use_native_recurrence(policy)
    context = LearnerContext(policy, flat, optimizer, config, shuffle, group, native, together)
    if config.compile.lower() != "false" and not worth_compiling(context) and use_native_convolutions(policy):
        log.debug("C++ computes the convolutions, with %s", instructions())
    measuring = Measuring(config, env, device)
    threads = update_threads(config, images=bool(policy.layout.images))
    return OnPolicyModule(context, collector, make_algorithm(context), actions, measuring, threads)


def check_exploration(exploration: ExplorationConfig, env: VectorEnv, policy: ActorCritic) -> None:
    """Raise ConfigError for a setting of continuous actions where there are none."""
    if gaussian_size(policy.distribution):
        return
    unusable = {"noise_color": exploration.noise_color or None, "final_log_std": exploration.final_log_std}
    for name, value in unusable.items():
        if value is not None:
            raise ConfigError(
                f"exploration.{name}={value:g}: is of continuous actions, and {env.env_id} has none; leave it out"
            )
