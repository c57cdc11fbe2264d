"""``doctor``: what is there, what is missing, and whether this machine repeats itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.errors import SetupError, TspinError
from ..base.text import printable
from ..jobs.doctor import Finding, examine, repeats_itself
from .console import say
from .options import print_json

_WIDTH = len("determinism")
_MARKS = {"ok": Text("✓", "green"), "note": Text("·", "yellow"), "problem": Text("✗", "bold red")}


def show_findings(folder: Path, *, determinism: bool, as_json: bool) -> None:
    """Print what is found, as it comes; exit code 3 if a run would fail, or not keep what is promised."""
    found = []
    for finding in _findings(folder, determinism=determinism):
        found.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print_json([asdict(finding) for finding in found])
    if any(finding.verdict == "problem" for finding in found):
        raise typer.Exit(SetupError.exit_code)


def _findings(folder: Path, *, determinism: bool) -> Iterator[Finding]:
    problems = 0
    for finding in examine(folder):
        problems += finding.verdict == "problem"
        yield finding
    if not determinism:
        return
    if problems:
        yield Finding("determinism", "note", "not tried: first mend what is wrong")
        return
    scratch = Path(tempfile.mkdtemp(prefix="tspin-mlx-doctor-"))
    try:
        finding = repeats_itself(scratch, say)
    except TspinError as error:
        finding = Finding("determinism", "problem", error.message, error.hint)
    if finding.verdict != "problem":
        shutil.rmtree(scratch)
    yield finding


def _print(finding: Finding) -> None:
    line = Table.grid(padding=(0, 1))
    line.add_column()
    line.add_column(width=_WIDTH)
    line.add_column(overflow="fold")
    line.add_row(_MARKS[finding.verdict], finding.about, Text(printable(finding.text)))
    if finding.hint:
        line.add_row("", "", Text(printable(f"→ {finding.hint}"), "dim"))
    Console(highlight=False).print(line)
