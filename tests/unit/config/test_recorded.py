"""Which settings a tracking store is told of a run, and in which order."""

from __future__ import annotations

from helpers import make_config

from ppolab.config.recorded import USUAL, WHEN_SET, changed_settings, recorded_settings, telling, value_left_out
from ppolab.config.schema import flattened


def test_what_a_run_is_comes_first_and_then_what_differs_from_the_defaults() -> None:
    names = list(recorded_settings(make_config(env="hopper", gamma=0.9, seed=3, **{"optimizer.lr": 1e-4})))
    assert names[:6] == ["env.id", "algorithm.name", "seed", "total_steps", "optimizer.lr", "gamma"]
    assert len(names) == 52


def test_bookkeeping_is_left_out_and_so_is_what_has_no_value() -> None:
    config = make_config(env="hopper", **{"env.timeout": 5.0, "logger.video": False, "keep_checkpoints": 9})
    assert changed_settings(config) == {}
    left_out = flattened(config).keys() - recorded_settings(config).keys()
    assert left_out == {
        "algorithm.clip_schedule", "algorithm.ignores", "callbacks", "checkpoint_interval", "env.action_mask",
        "entropy_schedule", "env.frame_stack", "env.kwargs", "env.log_info", "env.timeout", "env.wrappers",
        "exploration.final_log_std", "exploration.noise_color", "init_from", "keep_checkpoints",
        "logger.experiment", "logger.kind", "logger.register", "logger.run_name", "logger.tracking_uri",
        "logger.video", "lr_schedule", "model.actor_sizes", "model.critic_sizes", "model.encoder", "model.kwargs",
        "model.memory", "model.memory_layers", "model.memory_size", "model.network", "objective", "progress", "rerun",
        "resume", "sequence_length",
    }  # fmt: skip


def test_hooks_that_are_set_are_recorded() -> None:
    config = make_config(env="hopper", **{"env.kwargs": {"size": 3}, "env.log_info": ["distance"]})
    assert changed_settings(config) == {"env.kwargs.size": 3, "env.log_info": ["distance"]}
    for name, value in {"env.action_mask": "off", "exploration.final_log_std": -2.0}.items():
        assert changed_settings(make_config(env="hopper", **{name: value})) == {name: value}


def test_a_usual_value_is_left_out_as_a_number_and_as_a_store_s_text() -> None:
    config = make_config(env="hopper", **{"exploration.noise_color": 0.5})
    assert changed_settings(config) == {"exploration.noise_color": 0.5}
    assert telling({"exploration.noise_color": "0.0", "env.action_mask": "auto"}, []) == {}
    assert telling({"exploration.noise_color": "0.5"}, []) == {"exploration.noise_color": "0.5"}


def test_a_policy_with_memory_records_its_settings() -> None:
    config = make_config(env="hopper", **{"model.memory": "gru", "sequence_length": 8})
    assert changed_settings(config) == {"model.memory": "gru", "sequence_length": 8}
    assert recorded_settings(config)["model.memory_size"] == 128


def test_settings_that_the_algorithm_does_not_read_are_left_out() -> None:
    recorded = recorded_settings(make_config(env="cartpole", algorithm="a2c"))
    assert recorded.keys() & {"clip", "epochs", "minibatch_size", "target_kl"} == set()
    assert recorded["num_envs"] == 16


def test_the_defaults_are_those_of_the_options_that_were_chosen() -> None:
    assert changed_settings(make_config(env="cartpole", algorithm="a2c")) == {}
    config = make_config(env="cartpole", optimizer="rmsprop", trainer="ddp")
    assert changed_settings(config) == {
        "optimizer._target_": "torch.optim.RMSprop", "trainer.accelerator": "auto", "trainer.devices": 2,
    }  # fmt: skip


def test_a_store_s_texts_are_chosen_from_in_the_same_way() -> None:
    stored = {"env.kwargs": "{}", "model.network": "None", "target_kl": "None", "clip": "0.2", "logger.video": "True"}
    assert telling(stored, ["clip"]) == {"target_kl": "None"}


def test_what_is_left_out_has_its_default_value() -> None:
    defaults = flattened(make_config())
    usual = {key: value_left_out(key, "ppo_clip") for key in (*WHEN_SET, *USUAL, "model.memory", "lr_schedule")}
    assert usual == {key: str(defaults[key]) for key in usual}
