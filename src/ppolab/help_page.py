"""What --help prints."""

from __future__ import annotations

import string
from collections.abc import Iterator

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import OmegaConf, open_dict

from ppolab.folders import config_folder


def _groups(repository: IConfigRepository, parent: str = "") -> Iterator[str]:
    """The configuration groups below `parent`, at any depth; of Hydra's own none."""
    for name in repository.get_group_options(parent, ObjectType.GROUP):
        if parent or name != "hydra":
            yield f"{parent}{name}"
            yield from _groups(repository, f"{parent}{name}/")


def help_page(config_name: str, overrides: list[str]) -> str:
    """What Hydra's --help prints, in half the time: Hydra lists its own groups, too, copying all schemas for each."""
    with initialize_config_dir(str(config_folder("conf")), version_base="1.3"):
        node = compose(config_name, overrides, return_hydra_config=True)
        template = string.Template(node.hydra.help.template)
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        repository = loader.repository  # the loader's own methods of these names copy all schemas, every time
        options = [
            f"{group}: {', '.join(repository.get_group_options(group, ObjectType.CONFIG))}\n"
            for group in _groups(repository)
        ]
    with open_dict(node):
        del node.hydra
    return template.substitute(APP_CONFIG_GROUPS="".join(options), CONFIG=OmegaConf.to_yaml(node))
