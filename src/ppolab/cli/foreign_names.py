"""Translate what people type who come from other frameworks: names of settings, values, and words without a key."""

from __future__ import annotations

FOREIGN_NAMES = {
    "num_envs": ("n_envs", "n_env", "nenvs", "num_environments", "env_num", "training_num"),
    "rollout_steps": ("n_steps", "num_steps", "nsteps", "horizon", "rollout_length", "unroll_length"),
    "minibatch_size": ("batch_size", "mini_batch_size", "sgd_minibatch_size", "num_minibatches"),
    "epochs": ("n_epochs", "num_epochs", "update_epochs", "ppo_epochs", "num_sgd_iter", "repeat_per_collect"),
    "total_steps": ("total_timesteps", "num_timesteps", "n_timesteps", "timesteps", "max_steps"),
    "optimizer.lr": ("learning_rate", "lr", "pi_lr", "step_size"),
    "clip": ("clip_range", "cliprange", "clip_coef", "clip_param", "clip_ratio", "clip_eps", "eps_clip"),
    "lr_schedule": ("learning_rate_schedule", "lr_scheduler", "lr_decay"),
    "algorithm.clip_schedule": ("clip_schedule", "clip_range_schedule"),
    "algorithm.value_clip": ("clip_range_vf", "vf_clip_param", "clip_vloss"),
    "entropy_coef": ("ent_coef", "ent_weight", "entropy_coeff", "entropy_cost"),
    "value_coef": ("vf_coef", "value_loss_coef", "vf_loss_coeff", "critic_coef"),
    "max_grad_norm": ("grad_clip", "gradient_clip_val", "clip_grad_norm"),
    "gae_lambda": ("lam", "lambda", "lambda_", "gae_lam"),
    "gamma": ("discount", "discount_factor", "discounting"),
    "target_kl": ("kl_target", "desired_kl", "max_kl_divergence"),
    "normalize_observations": ("norm_obs", "normalize_obs", "observation_norm"),
    "normalize_rewards": ("norm_reward", "normalize_reward", "reward_norm", "rew_norm"),
    "normalize_advantages": ("norm_adv", "normalize_advantage", "advantage_norm"),
    "eval_interval": ("eval_freq", "eval_frequency", "evaluation_interval"),
    "eval_episodes": ("n_eval_episodes", "num_eval_episodes", "evaluation_duration"),
    "checkpoint_interval": ("save_freq", "save_interval", "checkpoint_freq"),
    "env.id": ("env_id", "env_name", "gym_id", "environment"),
    "env.kwargs": ("env_kwargs", "env_config"),
    "model.hidden_sizes": ("net_arch", "hidden_sizes", "fcnet_hiddens", "layers"),
    "model.network": ("features_extractor_class", "custom_model", "model._target_", "model.class"),
    "model.kwargs": ("features_extractor_kwargs", "custom_model_config"),
    "model.activation": ("activation_fn", "activation", "fcnet_activation"),
    "model.orthogonal": ("ortho_init", "orthogonal_init"),
    "model.initial_log_std": ("log_std_init", "logstd_init"),
    "trainer": ("device", "accelerator", "cuda", "gpu", "gpus", "use_gpu"),
    "algorithm": ("algo", "alg", "algorithm_name"),
    "logger.experiment": ("exp_name", "wandb_project_name", "experiment_name"),
    "workers": ("n_jobs", "num_workers"),
}
"""{our name: names in Stable-Baselines3, rl-zoo3, CleanRL, RLlib, Tianshou, Spinning Up, Brax}."""
OUR_NAMES = {name: ours for ours, names in FOREIGN_NAMES.items() for name in names}

FOREIGN_VALUES = {
    "algorithm": {"ppo": "ppo_clip", "ppo2": "ppo_clip", "reinforce": "vpg"},
    "trainer": {
        "cuda": "gpu", "cuda:0": "gpu", "true": "gpu", "True": "gpu", "1": "gpu", "false": "cpu", "False": "cpu",
        "0": "cpu",
    },
}  # fmt: skip
"""{group: {value elsewhere: option here}}."""

HELP_WORDS = ("help", "list", "usage", "options", "?")
"""What is typed without a key by those who look for the list of settings."""

RENDERING = ("render", "render_mode")
"""Settings of other programs that open a window; here an evaluation films an episode."""
