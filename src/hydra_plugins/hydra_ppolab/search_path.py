"""Put `sweeps/` on Hydra's search path, so that `search=NAME` finds its file."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from ppolab.config.files import config_folder


class PpolabSearchPath(SearchPathPlugin):
    """Add the folder of the shipped search spaces."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="ppolab", path=config_folder("sweeps").as_uri())
