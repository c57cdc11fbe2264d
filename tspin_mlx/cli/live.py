"""The live view of a run on a terminal: a line per finished phase, and two for the current one."""

from __future__ import annotations

import sys

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..base.text import duration, printable, signed, sparkline
from ..view.colours import ON_DARK
from ..view.event_text import WORTH_A_LINE, event_text, measures_line
from ..view.events import Event
from ..view.run_view import RunView, reduce


class LiveView:
    """Shows events on stderr: finished phases scroll up, the current one stays at the bottom."""

    def __init__(self, phases: int) -> None:
        self._phases = phases
        self._view = RunView()
        self._details: list[Text] = []
        self._console = Console(file=sys.stderr, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        before, self._view = self._view, reduce(self._view, event)
        if event["kind"] == "phase_finished":
            # It moves up, with its results; one that took no time gets no line.
            if event["elapsed_s"] > WORTH_A_LINE or self._details:
                took = (f"{duration(event['elapsed_s']):>6}", "dim")
                self._console.print(Text.assemble(("✓ ", "green"), f"{before.title:<36}", took))
            for line in self._details:
                self._console.print(Padding(line, (0, 0, 0, 4), expand=False))
            self._details.clear()
        elif event["kind"] == "evaluated":
            self._details.append(Text(measures_line(event), style="dim"))
        elif event["kind"] in ("generated", "chosen"):
            self._details.append(Text((event_text(event) or "").strip(), style="dim"))
        elif event["kind"] in ("warning", "restarted"):
            self._console.print(Text(printable(event_text(event) or ""), style="yellow"))
        elif event["kind"] in ("resumed", "stopping"):
            self._console.print(Text((event_text(event) or "").strip(), style="dim"))
        self._live.update(self._now())

    def _now(self) -> RenderableType:
        view = self._view
        if view.phase is None:
            return Text("" if view.phases_done else "loading the model …", style="dim")
        head = Table.grid(padding=(0, 1), expand=False)
        head.add_row(
            Text(f"{view.phases_done + 1}/{self._phases}", style="dim"),
            Text(f"{view.title:<31}", no_wrap=True, overflow="ellipsis"),
            ProgressBar(total=max(1, view.total), completed=view.done, width=16),
            Text(f"{view.done}/{view.total}" if view.total else "…", no_wrap=True),
            Text(f"{view.tokens_per_s:.0f} tok/s" if view.tokens_per_s else "", style="dim"),
        )
        if "loss" not in view.step:
            return head
        cells, line = [Text(f"loss {view.step['loss']:.3f}")], Table.grid(padding=(0, 1))
        for name, colour in zip(("current", "historical"), ON_DARK, strict=False):
            key = f"advantage/{name}"
            if key in view.step:
                curve = sparkline(view.steps.column(key).tolist())
                cells.append(Text(f"{name} {signed(view.step[key])} {curve}", style=colour))
        line.add_row(*cells)
        return Group(head, line)
