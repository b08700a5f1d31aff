"""Adapt the pages to the site: a link that leaves docs/ becomes the file's path, since the site has no such page."""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```|^    .*?$)", re.MULTILINE | re.DOTALL)


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
