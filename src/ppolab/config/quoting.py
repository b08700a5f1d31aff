"""Write text so that Hydra's grammar for `key=value` takes it as it is."""

from __future__ import annotations

import re


def quoted(text: str) -> str:
    """Return `text` in single quotes, escaped as Hydra's grammar wants it."""
    # a backslash stands for itself there, unless backslashes lead up to a quote
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def quoted_where_not_ascii(value: str) -> str:
    """Return `value` with its non-ASCII texts in quotes, since Hydra's grammar knows letters of ASCII only.

    A list keeps its commas and brackets. Values with quotes, braces or interpolations stay as they are.
    """
    if value.isascii() or any(character in value for character in "'\"{}()$"):
        return value
    return re.sub(r"[^,\[\]]+", lambda m: m[0] if m[0].isascii() else quoted(m[0].strip()), value)
