"""Keeps passwords out of everything that is written, shown or sent."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"


def redact(text: str) -> str:
    """`text`, or a URI, with the credentials of all URIs in it replaced by ***."""
    # a password, after a colon, may hold anything but blanks and double quotes, slashes included
    text = re.sub(r"(\w://)(?:[^\s/:@\"]*:[^\s\"]*|[^\s/\"]*)@", rf"\1{HIDDEN}@", text)
    return re.sub(r"([?&]\w*(?:password|passwd|token|secret)=)[^&\s\"]*", rf"\1{HIDDEN}", text, flags=re.IGNORECASE)


def redacted(value: Any) -> Any:
    """`value` with the texts in it redacted, however deep in lists and dictionaries."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value
