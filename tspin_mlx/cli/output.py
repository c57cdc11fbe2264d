"""Output that several commands share: JSON for programs; tables, sizes and counts for people."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import typer
from rich.console import Console
from rich.table import Table

from ..base.text import shorten


def print_json(content: object) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))


def print_table(table: Table) -> None:
    """Print a table on stdout."""
    Console(highlight=False).print(table)


def plain_table(*headings: str, right: Collection[str] = (), no_wrap: bool = False) -> Table:
    """A table without lines, with dim headings.

    Args:
        right: headings of right-aligned columns.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=no_wrap)
    return table


def file_size(count: int) -> str:
    """``1234`` -> ``1.2 kB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def examples_text(counts: Mapping[str, int]) -> str:
    """How many examples each split has."""
    return f"{counts['train']} training, {counts['validation']} validation, {counts['test']} test examples"


def skipped_text(skipped: Sequence[str]) -> str:
    """How many rows were skipped, and the reason for the first."""
    return f"skipped  {len(skipped)} rows, the first: {shorten(skipped[0], 90)}"
