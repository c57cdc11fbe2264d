"""Streamed answers of ``chat``: one after the other, or two side by side where there is room; or as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..base.text import printable
from ..generation.stream import Piece

#: Shows the answers to a prompt.
Show = Callable[[str, Iterable[tuple[str, Piece]]], None]

#: Columns that a terminal needs for two answers side by side.
WIDE = 80


@dataclass
class _Answer:
    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None

    def add(self, piece: Piece) -> None:
        self.text += printable(piece.text, keep_newlines=True)
        self.tokens, self.finish_reason = piece.tokens, piece.finish_reason

    @property
    def footer(self) -> str:
        cut = {"stop": "", "length": ", cut there (--max-tokens)", None: ", …"}[self.finish_reason]
        return f"{self.tokens} tokens{cut}"


def shown_answers(labels: dict[str, str]) -> Show:
    """Choose how answers are shown on stdout.

    Args:
        labels: the policies' labels, by name.
    """
    console = Console(highlight=False)
    if len(labels) > 1 and console.is_terminal and console.width >= WIDE:
        return lambda prompt, pieces: _side_by_side(console, labels, pieces)
    return lambda prompt, pieces: _one_by_one(console, labels, prompt, pieces)


def show_as_json(prompt: str, pieces: Iterable[tuple[str, Piece]]) -> None:
    """Print one JSON object per answer on stdout."""
    text = ""
    for name, piece in pieces:
        text += piece.text
        if piece.finish_reason is not None:
            row = {"prompt": prompt, "policy": name, "text": text, "tokens": piece.tokens,
                   "finish_reason": piece.finish_reason}  # fmt: skip
            print(json.dumps(row), flush=True)  # noqa: T201
            text = ""


def _one_by_one(console: Console, labels: dict[str, str], prompt: str, pieces: Iterable[tuple[str, Piece]]) -> None:
    """Plain text, which the terminal wraps itself."""
    several = len(labels) > 1
    if several and not sys.stdin.isatty():
        console.print(Text(f"> {printable(prompt)}", style="dim"), soft_wrap=True)
    current: str | None = None
    try:
        for name, piece in pieces:
            if several and name != current:
                console.print(Text(("\n" if current else "") + labels[name], style="bold"))
            current = name
            sys.stdout.write(printable(piece.text, keep_newlines=True))
            sys.stdout.flush()
            if piece.finish_reason == "length" and console.is_terminal:
                console.print(Text(" … cut there (--max-tokens)", style="dim"), end="")
            if piece.finish_reason and several:
                console.print()
    finally:
        console.print("" if several else "\n" if console.is_terminal else "")


def _side_by_side(console: Console, labels: dict[str, str], pieces: Iterable[tuple[str, Piece]]) -> None:
    """Two columns that grow; while they do, no higher than the screen."""
    answers = {name: _Answer() for name in labels}
    try:
        with Live(console=console, refresh_per_second=12, transient=True) as live:
            for name, piece in pieces:
                answers[name].add(piece)
                live.update(_Tail(_columns(labels, answers)))
    finally:
        console.print(_columns(labels, answers))
        console.print()


def _columns(labels: dict[str, str], answers: dict[str, _Answer]) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), show_footer=True, footer_style="dim")
    for name, answer in answers.items():
        table.add_column(Text(labels[name]), Text(answer.footer), ratio=1, overflow="fold")
    table.add_row(*(Text(answer.text) for answer in answers.values()))
    return table


@dataclass
class _Tail:
    """The last lines of something that may be higher than the screen."""

    content: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # The terminal writes ^C after the last line. If that is full, it wraps, and the first line is left over.
        lines = console.render_lines(self.content, options.update_width(options.max_width - len("^C")), pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()
