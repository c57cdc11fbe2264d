"""Several runs over one another, and only the settings in which they differ."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tspin_mlx.base.errors import TspinError
from tspin_mlx.base.text import abridge, printable
from tspin_mlx.evaluation.metrics import HEADINGS
from tspin_mlx.recipe.policy_names import policy_label
from tspin_mlx.runs.run import Run
from tspin_mlx.view.chart import Plot, Series
from tspin_mlx.view.run_view import RunView

from ..keys import bound
from ..state.source import LiveSource
from ..state.status import short
from ..theme import palette, words_of
from ..widgets.chart import ChartView
from ..widgets.key_line import KeyLine
from .app_screen import AppScreen

#: How many runs can be told apart.
MOST = 6

_EVERY_S = 2.0
_METRICS = ("advantage/current", "advantage/historical", "loss", "rewards/accuracies", "logps/chosen", "entropy")
_NOT_SETTINGS = ("run.name", "description", "measured")


class CompareScreen(AppScreen):
    """One chart for a metric of all of them, and a table.

    Args:
        paths: of the runs, at most :data:`MOST`.
    """

    HELP = (
        "One metric of several runs over the steps of self-play, and the settings in which the runs differ. Those that "
        "are not finished are followed."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("later", "metric(1)", "next metric", priority=True),
        bound("earlier", "metric(-1)", "metric before", priority=True),
        bound("detach", "dismiss", "back"),
        bound("back", "dismiss", "back", show=False),
    ]

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self._paths = paths
        self._sources: list[LiveSource] = []
        self._at = 0

    def compose(self) -> ComposeResult:
        """Title, chart, table."""
        yield Static(id="compare-title", classes="line")
        yield ChartView(id="compare-chart", marks=False)
        with VerticalScroll(id="compare-below"):
            yield Static(id="compare-table")
        yield KeyLine()

    def on_mount(self) -> None:
        """Read the runs in a thread of its own: logs can be long."""
        self.query_one("#compare-title", Static).update("reading …")
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show())
        self.run_worker(self._read, thread=True)
        self.set_interval(_EVERY_S, self._follow)

    def _read(self) -> None:
        found = []
        for path in self._paths:
            with contextlib.suppress(TspinError):  # damaged, or removed meanwhile
                source = LiveSource(Run(path), self.app.clock)
                while not source.caught_up:
                    source.poll()
                found.append(source)
        self.app.call_from_thread(self._found, found)

    def _found(self, sources: list[LiveSource]) -> None:
        self._sources = sources
        if sources:
            self._show()
        else:
            self.app.show_message("none of these runs can be read", warning=True)
            self.app.close_screen(self)

    def _follow(self) -> None:
        """Take in what runs that are not finished have done since."""
        changed = [source.poll() for source in self._sources if not source.view.finished]
        if any(changed):
            self._show()

    def _show(self) -> None:
        self._draw()
        self.query_one("#compare-table", Static).update(self._table())

    def _draw(self) -> None:
        metric, colours = _METRICS[self._at], words_of(self.app)
        series = tuple(
            Series(abridge(source.run.name, 20), _self_play(source.view, metric)) for source in self._sources
        )
        zero = metric.startswith("advantage")
        self.query_one(ChartView).plot = Plot(series, unit="nats" if zero or "logps" in metric else "", zero=zero)
        title = Text.assemble((metric, "bold"), (f"   {self._at + 1} of {len(_METRICS)}, ← and →", colours["dim"]))
        self.query_one("#compare-title", Static).update(title)

    def _table(self) -> Table:
        colours, lines = words_of(self.app), palette(self.app).lines
        table = Table.grid(padding=(0, 3, 0, 0))
        table.add_column(style=colours["dim"])
        for _ in self._sources:
            table.add_column(overflow="fold")
        runs = [source.run for source in self._sources]
        table.add_row("", *(Text(printable(run.name), style=f"bold {lines[i]}") for i, run in enumerate(runs)))
        table.add_row("best", *map(_best, self._sources))
        for key, values in differences([run.plan_row for run in runs]).items():
            table.add_row(key, *(Text(printable(value)) for value in values))
        return table

    def action_metric(self, by: int) -> None:
        """Another metric."""
        self._at = (self._at + by) % len(_METRICS)
        self._draw()


def differences(plans: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The settings that are not the same in all plans, and the number of examples where that differs."""
    from tspin_mlx.recipe.parse import flatten

    flat = [flatten(plan["recipe"]) | {f"examples.{name}": n for name, n in plan["counts"].items()} for plan in plans]
    keys = [key for key in dict.fromkeys(key for row in flat for key in row) if key not in _NOT_SETTINGS]
    rows = {key: ["–" if (value := row.get(key)) is None else str(value) for row in flat] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _self_play(view: RunView, metric: str) -> Any:
    parts = view.self_play
    return view.steps.column(metric)[parts[0].start if parts else len(view.steps) :]


def _best(source: LiveSource) -> Text:
    run, view = source.run, source.view
    metric = run.plan_row["recipe"]["evaluation"]["best"]
    value = view.evaluations.get(view.best or "", {}).get(metric)
    if view.best is None:
        return Text("–")
    return Text(f"{policy_label(view.best, run.warm)} {HEADINGS.get(metric, metric)} {short(value)}")
