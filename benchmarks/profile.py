"""Where the time of an iteration goes, in a real run of the command line:

    python benchmarks/profile.py --env Hopper-v5
    python benchmarks/profile.py --env Ant-v5 --steps 400000 target_kl=null

What is not an option is a setting, as for src/train.py. The run tracks to a store of its own in a temporary folder and
draws its progress line into a file, as if there were a terminal. Table and picture go to OUT/ENV.md and OUT/ENV.png,
the numbers to OUT/ENV.csv; OUT/ENV-timeline.png shows one iteration, thread by thread. Every moment belongs to one
part: of nested functions, to the innermost named in PARTS. The first iterations (compiling, imports, the tracking store
being made) do not count; evaluations and checkpoints are reported apart.
"""

from __future__ import annotations

PARTS = (
    ("ppolab.envs.envpool_backend.EnvPoolEnv._send", "simulation"),
    ("ppolab.envs.envpool_backend.EnvPoolEnv._receive", "simulation"),
    ("ppolab.envs.gymnasium_backend.GymnasiumEnv._send", "simulation"),
    ("ppolab.envs.gymnasium_backend.GymnasiumEnv._receive", "simulation"),
    ("ppolab.training.native_loop.NativeLoop.run", "collecting loop"),
    ("ppolab.learning.actor_critic.ActorCritic.forward", "policy"),
    ("ppolab.learning.actor_critic.ActorCritic.action_parameters", "policy"),
    ("ppolab.learning.actor_critic.ActorCritic.remembering", "policy"),
    ("ppolab.learning.native.policy.NativePolicy.__call__", "policy"),
    ("ppolab.learning.native.policy.NativePolicy.act", "policy"),
    ("ppolab.core.distributions.DiagonalGaussian.noise", "policy"),
    ("ppolab.core.distributions.DiagonalGaussian.sample", "policy"),
    ("ppolab.core.distributions.DiagonalGaussian.log_prob", "policy"),
    ("ppolab.core.distributions.MultiCategorical.noise", "policy"),
    ("ppolab.core.distributions.MultiCategorical.sample", "policy"),
    ("ppolab.core.distributions.MultiCategorical.log_prob", "policy"),
    ("ppolab.training.collector.Collector.collect", "bookkeeping"),
    ("ppolab.training.module.OnPolicyModule.training_step", "bookkeeping"),
    ("ppolab.learning.experience.Experience.__init__", "advantages"),
    ("ppolab.learning.experience.Experience.samples", "advantages"),
    ("ppolab.learning.experience.Experience.samples_by", "advantages"),
    ("ppolab.learning.learner.Learner._values", "advantages"),
    ("ppolab.learning.learner.Learner._remembered_values", "advantages"),
    ("ppolab.learning.native.policy.NativePolicy.values", "advantages"),
    ("ppolab.learning.native.policy.NativePolicy.advantages", "advantages"),
    ("ppolab.learning.learner.Learner.update", "update"),
    ("ppolab.records.metrics_file.MetricsFile.write", "logging"),
    ("ppolab.training.recorder.RunRecorder.record", "logging"),
    ("ppolab.training.progress_bar.ProgressBar.after_iteration", "progress"),
    ("ppolab.training.callbacks.evaluating.Evaluation.after_iteration", "evaluation"),
    ("ppolab.training.callbacks.evaluating.Evaluation.after_training", "evaluation"),
    ("ppolab.training.callbacks.checkpoints.Checkpoints.after_iteration", "checkpoints"),
    ("ppolab.training.callbacks.checkpoints.Checkpoints.after_training", "checkpoints"),
)
"""Dotted name of a function, where its caller looks it up, and the part that its own time belongs to.

simulation: giving actions to the simulator and waiting for it, where Python does so. collecting loop: the same and the
choice of actions, where C++ does both. policy: probabilities and values of a rollout, and actions that Python asks for.
bookkeeping: the rest of collecting, and of the iteration. advantages: those, and the values they rest on.
update: gradients, steps and shuffling. logging: metrics to the file and to the tracker. Lightning: all the rest.
"""


def hand_over() -> None:
    """Put the standard library's module `profile` in the place of this one.

    Programs in this folder have the folder first on sys.path, and cProfile, which torch imports, imports `profile`.
    """
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec
    from pathlib import Path

    here = Path(__file__).resolve().parent
    found = PathFinder.find_spec("profile", [place for place in sys.path if Path(place).resolve() != here])
    assert found is not None
    assert found.loader is not None
    sys.modules["profile"] = module_from_spec(found)
    found.loader.exec_module(sys.modules["profile"])


if __name__ == "__main__":
    from profile_run import main

    main(__doc__ or "", PARTS)
elif __name__ == "profile":
    hand_over()
