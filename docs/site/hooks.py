"""Make the site of the pages: add the page of all settings, and make paths of links that leave docs/.

The site has no page for a file outside of docs/, so such a link becomes the file's path.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
SETTINGS_PAGE = "reference/settings.md"
FENCE = re.compile(r"(^```.*?^```|^    .*?$)", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Return the files of the site with one page more."""
    from mkdocs.structure.files import File

    root = Path(config.config_file_path).parent
    sys.path[:0] = [str(root / "src"), str(root / "docs/site")]
    from settings_page import settings_page

    files.append(File.generated(config, SETTINGS_PAGE, content=settings_page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page's text with the links out of docs/ as paths; code is left as it is."""
    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lambda link: _inside(link, page.file.src_uri), part) for part in parts[::2]]
    return "".join(parts)


def _inside(link: re.Match[str], page: str) -> str:
    target = link["target"].partition("#")[0]
    if not target or ":" in target:
        return link[0]
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    if path.startswith("docs/") and not path.endswith(".py"):
        return link[0]
    text = link["text"]
    return f"`{path}`" if text.strip("`") in (path, posixpath.basename(path)) else f"{text} (`{path}`)"
