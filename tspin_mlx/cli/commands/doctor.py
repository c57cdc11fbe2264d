"""``doctor``: check the machine, and optionally that training on it is deterministic."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ...base.errors import SetupError, TspinError
from ...base.text import printable
from ..console import say
from ..options import Folder, Json
from ..output import print_json, print_table

_WIDTH = len("determinism")
_MARKS = {"ok": Text("✓", "green"), "note": Text("·", "yellow"), "problem": Text("✗", "bold red")}


def doctor(
    determinism: Annotated[
        bool,
        typer.Option("--determinism", help="Train the built-in model twice, kill and resume one, and compare."),
    ] = False,
    folder: Folder = Path("runs"),
    as_json: Json = False,
) -> None:
    """Check that this machine has what a run needs: MLX, memory, disk, model, token.

    With --determinism, check also that a run makes the same files when it is killed and resumed.

    Example: tspin-mlx doctor --determinism
    """
    from ...jobs.doctor import Finding, examine, repeats_itself

    findings: list[Finding] = []

    def report(finding: Finding) -> None:
        findings.append(finding)
        if as_json:
            return
        line = Table.grid(padding=(0, 1))
        line.add_column()
        line.add_column(width=_WIDTH)
        line.add_column(overflow="fold")
        line.add_row(_MARKS[finding.verdict], finding.about, Text(printable(finding.text)))
        if finding.hint:
            line.add_row("", "", Text(printable(f"→ {finding.hint}"), "dim"))
        print_table(line)

    for finding in examine(folder):
        report(finding)
    if determinism and any(finding.verdict == "problem" for finding in findings):
        report(Finding("determinism", "note", "not tried: fix the problems first"))
    elif determinism:
        scratch = Path(tempfile.mkdtemp(prefix="tspin-mlx-doctor-"))
        try:
            repeated = repeats_itself(scratch, say)
        except TspinError as error:
            repeated = Finding("determinism", "problem", error.message, error.hint)
        if repeated.verdict != "problem":
            shutil.rmtree(scratch)
        report(repeated)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(SetupError.exit_code)
