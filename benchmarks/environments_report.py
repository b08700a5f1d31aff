"""Write docs/environments.md from the rows of benchmarks/environments.py."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from result_tables import markdown

from ppolab.records.versions import package_versions


@dataclass(frozen=True)
class Row:
    """One id. `limit`: steps after which an episode is truncated. `reason`: why it is not trained; empty if it is.

    `steps_per_second`: of the simulator alone, with 16 environments on two threads and random actions.
    """

    id: str
    family: str
    observation: str
    action: str
    limit: int | None
    steps_per_second: float | None
    reason: str


INTRODUCTION = """# Environments of EnvPool

`python benchmarks/environments.py run` and `report` made this page. Each id was tried in a process of its own: two
iterations of training, and an evaluation of at most 50 steps. In training, episodes end after 6 steps where the id
takes a limit; 345 of MyoSuite's 796 ids were tried before the program did that. Steps/s are those of the
simulator alone, with 16 environments, two threads and random actions; the machine had other work at that time, so they
are too low by a factor that differs from id to id. An id works as `env.id=ID`.
Another page says
[what differs between the families](environments_of_your_own.md#what-differs-between-envpools-families).
"""


def write_report(rows: Sequence[Row], page: Path) -> None:
    """Write the page: a table of families, then every id."""
    versions = package_versions()
    tried = f"EnvPool {versions.get('envpool')}, Gymnasium {versions.get('gymnasium')}: {len(rows)} ids, of which "
    lines = [INTRODUCTION, f"{tried}{sum(not row.reason for row in rows)} train.\n"]
    families = sorted({row.family for row in rows})
    head = ("family", "ids", "train", "steps/s, median")
    lines += markdown(head, [_family(family, [row for row in rows if row.family == family]) for family in families])
    for family in families:
        lines += ["", f"## {family}", "", *_ids([row for row in rows if row.family == family])]
    page.write_text("\n".join(lines) + "\n")


def _family(family: str, rows: Sequence[Row]) -> Sequence[str]:
    speeds = sorted(row.steps_per_second for row in rows if row.steps_per_second)
    speed = f"{speeds[len(speeds) // 2]:,.0f}" if speeds else ""
    link = f"[{family}](#{re.sub(r'[^a-z0-9_-]', '', family.lower())})"
    return (link, str(len(rows)), str(sum(not row.reason for row in rows)), speed)


def _ids(rows: Sequence[Row]) -> Iterable[str]:
    """Return a table of ids; those that look the same share a line."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (row.observation, row.action, _mask(row), str(row.limit or "none"), row.reason)
        alike.setdefault(key, []).append(row)
    lines = []
    for (observation, action, mask, limit, reason), same in alike.items():
        names = " ".join(f"`{row.id}`" for row in same)
        lines.append((names, observation, action, mask, limit, reason or "trains"))
    return markdown(("ids", "observation", "action", "mask of actions", "limit", ""), lines, texts=6)


def _mask(row: Row) -> str:
    """Return where the environment says which actions are allowed, and whether it does so for combinations."""
    if "action_mask" not in row.observation:
        return "info" if row.family == "pgx" else ""
    found = re.search(r"action_mask MultiBinary\((.*?)\)\)", row.observation)
    combined = found is not None and prod(_numbers(found[1])) != sum(_numbers(row.action))
    return "observation, over combinations" if combined else "observation"


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
