"""Whether a grid's jobs find packages whole, where modules of the user's stand only in what the grid varies."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from hydra_plugins.hydra_ppolab._process_jobs import names_own_code, preloaded

PLAIN = OmegaConf.create(
    {
        "compile": "auto",
        "optimizer": {"_target_": "torch.optim.Adam"},
        "algorithm": {"name": "ppo_clip"},
        "model": {"encoder": None, "network": None, "dropout": 0.0, "state_dependent_std": False},
        "trainer": {"accelerator": "cpu", "precision": "32"},
        "logger": {"kind": "none", "register": None},
        "callbacks": [],
    }
)
WHOLE = "hydra_plugins.hydra_ppolab._preload_whole"


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"callbacks": ["my_package:MyCallback"]}, True),
        ({"model": {"network": "my_package:Net"}}, True),
        ({"callbacks": [], "env": {"id": "CartPole-v1"}, "clip": 0.2, "model.hidden_sizes": [64, 64]}, False),
    ],
)
def test_modules_of_the_user_s_are_seen_in_settings(settings: dict[str, object], names: bool) -> None:
    assert names_own_code(settings) is names


def test_what_a_grid_varies_decides_too() -> None:
    assert WHOLE not in preloaded(PLAIN)
    assert WHOLE in preloaded(PLAIN, own_code=True)
    assert WHOLE in preloaded(OmegaConf.merge(PLAIN, {"callbacks": ["my_package:MyCallback"]}))
