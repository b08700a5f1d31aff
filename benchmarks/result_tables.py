"""Rows of dataclasses in CSV files, and Markdown tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

AnyRow = TypeVar("AnyRow")


def read_rows(table: Path, kind: type[AnyRow]) -> list[AnyRow]:
    """The rows of a table as dataclasses of `kind`; none if it does not exist yet."""
    if not table.is_file():
        return []
    columns = fields(kind)  # type: ignore[arg-type]
    with table.open(newline="") as file:
        return [
            kind(**{field.name: parsed(field.type, raw[field.name]) for field in columns})
            for raw in csv.DictReader(file)
        ]


def parsed(kind: Any, text: str) -> Any:
    """A cell of the table as the type that its column is annotated with."""
    if "None" in kind and not text:
        return None
    if kind == "bool":
        return text == "True"
    return {"str": str, "int": int, "float": float}[kind.split()[0]](text)


def append(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a CSV file, with a header if it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)


def append_rows(path: Path, kind: type[AnyRow], rows: Iterable[AnyRow]) -> None:
    """Add dataclasses of `kind` to a CSV file, with a header of its fields if it is new."""
    append(path, [field.name for field in fields(kind)], map(asdict, rows))  # type: ignore[arg-type]


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """The lines of a Markdown table; all columns but the first `texts` are numbers, and set to the right."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return [line(cells) for cells in (head, rule, *lines)]


def line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
