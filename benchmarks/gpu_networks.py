"""The parts of `benchmarks/gpu.py` that time gradients and epochs of networks on made-up samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu_bench import Bench, timed


def gradient(bench: Bench) -> None:
    """Time gradients with respect to all parameters of the policy of Hopper with 64 units, one by one."""
    from gymnasium import spaces

    import ppolab
    from ppolab.core.observation_rows import RowLayout

    time_gradients(
        bench, "gradient", "64 units", RowLayout(11), spaces.Box(-1, 1, (3,)), ppolab.compose(["env=hopper"])
    )


def epochs(bench: Bench) -> None:
    """Time epochs of Hopper's policy on made-up samples, in minibatches of 64 and of the training's size."""
    import ppolab

    count = bench.sizes.training_worlds
    compiled = "auto" if bench.device.type == "cuda" else "false"
    for size in (64, 2 * count):
        settings = [f"num_envs={min(count, 1024)}", "rollout_steps=16"] if size == 64 else [f"num_envs={count}"]
        config = ppolab.compose(
            ["experiment=gpu", *settings, f"minibatch_size={size}", "target_kl=null", f"compile={compiled}"]
        )
        alone = None
        for what, members in {"one seed": 1, "eight seeds at once": 8, "step by step": 0}.items():  # what is new first
            taken, seconds, launching = timed(bench, epoch_to_time(bench, config, members))
            steps = taken * -(-config.batch_size // size)
            each = 1000 * seconds / steps
            bench.add("epochs", f"{what}, minibatch of {size}", each, "ms")
            bench.add("epochs", f"{what}, minibatch of {size}, share of launching", launching / seconds, "")
            alone = each if members == 1 else alone
            if alone is not None and members > 1:
                bench.add("epochs", f"eight seeds at once / one seed, minibatch of {size}", each / alone, "")


def epoch_to_time(bench: Bench, config: Any, members: int) -> Callable[[], Any]:
    """Return a function that makes one epoch of so many members; 0: of one, step by step."""
    from ppolab.learning.epoch import steps_in_parts, stepwise_epoch
    from ppolab.learning.gradient import compiled_on_first_call, whole_gradient, worth_compiling
    from ppolab.learning.members import epoch_of
    from ppolab.runtime.process_group import ALONE

    learners, passes = zip(*(made_up(bench, config, seed) for seed in range(max(1, members))), strict=True)
    if members:
        epoch = epoch_of(learners)
        return lambda: epoch.of_members(passes)
    context = learners[0].context
    gradient = whole_gradient(context.policy, context.flat, learners[0].objective)
    if worth_compiling(context):
        gradient = compiled_on_first_call(gradient)
    run = stepwise_epoch(gradient, context.flat.vector, context.optimizer, config, ALONE)
    return lambda: steps_in_parts(run, context.flat.vector.detach(), passes[0])


def made_up(bench: Bench, config: Any, seed: int) -> tuple[Any, Any]:
    """Return a learner with Hopper's policy, and an epoch of made-up samples."""
    import torch
    from gymnasium import spaces

    from ppolab.core.observation_rows import RowLayout
    from ppolab.learning.actor_critic import ActorCritic, action_distribution
    from ppolab.learning.algorithms import make_algorithm
    from ppolab.learning.epoch import Pass, shuffled
    from ppolab.learning.flat_parameters import flatten_parameters
    from ppolab.learning.interface import LearnerContext
    from ppolab.learning.objective import Samples
    from ppolab.learning.optimizer import make_optimizer

    distribution, rows = action_distribution(spaces.Box(-1, 1, (3,))), config.batch_size
    policy = ActorCritic(RowLayout(11), distribution, config.model, normalize=False).to(bench.device)
    flat, generator = flatten_parameters(policy), torch.Generator().manual_seed(seed)
    learner = make_algorithm(LearnerContext(policy, flat, make_optimizer(config, flat), config, generator))
    observations, numbers = torch.randn(rows, 11, device=bench.device), torch.randn(4, rows, device=bench.device)
    with torch.no_grad():
        parameters, _ = policy(observations)
        actions = distribution.mode(parameters) + 0.1
        log_probs = distribution.log_prob(parameters, actions)
    samples = Samples(observations, actions, parameters, log_probs, *numbers[:3], torch.ones_like(numbers[3]))
    return learner, Pass(samples, shuffled(torch.zeros(rows, dtype=torch.int64), 0, config.minibatch_size, generator))


def images(bench: Bench) -> None:
    """Time gradients of the Nature network on four frames of 84 x 84."""
    from gymnasium import spaces

    import ppolab
    from ppolab.core.observation_rows import ImagePart, RowLayout

    layout = RowLayout(0, (ImagePart("", (4, 84, 84), channels_last=False),))
    config = ppolab.compose(["experiment=atari"])
    for precision in ("fp32", "bf16"):
        time_gradients(bench, "images", f"Nature network, {precision}", layout, spaces.Discrete(6), config)


def time_gradients(bench: Bench, part: str, what: str, layout: Any, space: Any, config: Any) -> None:
    """Time forward and backward passes of an actor-critic."""
    import torch

    from ppolab.learning.actor_critic import ActorCritic, action_distribution

    policy = ActorCritic(layout, action_distribution(space), config.model, normalize=False).to(bench.device)
    policy.bf16 = what.endswith("bf16")
    for size in bench.sizes.minibatches:
        rows = torch.randn(size, layout.scaled_width, device=bench.device)
        if layout.images:
            rows = torch.randint(0, 256, (size, layout.scaled_width), device=bench.device, dtype=torch.uint8)

        def step(rows: Any = rows) -> None:
            parameters, values = policy(rows)
            (parameters.float().square().mean() + values.float().square().mean()).backward()

        taken, seconds, launching = timed(bench, step)
        bench.add(part, f"{what}, minibatch of {size}", 1000 * seconds / taken, "ms")
        bench.add(part, f"{what}, minibatch of {size}, share of launching", launching / seconds, "")
