"""Writes the rows of a benchmark as CSV and formats them as a Markdown table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sess_lightning.jobs.store import Row


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV with the columns of the first row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def markdown(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """Returns a Markdown table.

    Args:
        rows: the rows, each a mapping from column to value.
        columns: format of the values by column, e.g. `{"seconds": ".3f"}`; the value `None` gives an empty cell.

    Example:
        >>> print(markdown([{"name": "a", "s": 0.25}], {"name": "", "s": ".1f"}))
        | name | s |
        |---|---|
        | a | 0.2 |
    """
    lines = [" | ".join(columns), "|".join("---" for _ in columns)]
    for row in rows:
        cells = ("" if row[name] is None else format(row[name], spec) for name, spec in columns.items())
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def pairs(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], list[Row], list[Row]]]:
    """Yields `(model, method)` with its rows without SESS and its rows with SESS, both in the order of the photos."""
    keys = dict.fromkeys((str(row["model"]), str(row["method"])) for row in rows)
    for model, method in keys:
        own = [row for row in rows if (row["model"], row["method"]) == (model, method)]
        yield (model, method), [row for row in own if not row["sess"]], [row for row in own if row["sess"]]


def values_of(rows: list[Row], figure: str) -> np.ndarray:
    """Returns a figure of each row `(R,)`; NaN where the row has none."""
    return np.array([np.nan if row[figure] is None else row[figure] for row in rows], dtype=float)
