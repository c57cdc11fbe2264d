"""Compare screen: one metric of several runs in a chart, and the settings in which they differ."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tspin_mlx.base.errors import TspinError
from tspin_mlx.base.text import abridge, printable
from tspin_mlx.evaluation.metrics import HEADINGS
from tspin_mlx.recipe.phase import Outline
from tspin_mlx.recipe.policy_names import policy_label
from tspin_mlx.runs.run import Run
from tspin_mlx.view.chart import Plot, Series
from tspin_mlx.view.run_view import RunView

from ..keys import binding
from ..state.source import LiveSource
from ..state.status import format_metric
from ..theme import palette, theme_colours
from ..widgets.chart import ChartView
from ..widgets.key_line import KeyLine
from .app_screen import AppScreen

if TYPE_CHECKING:
    import numpy as np

#: As many runs as there are colours that can be told apart.
MAX_RUNS = 6

REFRESH_S = 2.0
_METRICS = ("advantage/current", "advantage/historical", "loss", "rewards/accuracies", "logps/chosen", "entropy")
_IGNORED_KEYS = ("run.name", "description", "measured")


class CompareScreen(AppScreen):
    """A chart with one metric of all runs, and a table of their differences.

    Args:
        paths: of the runs, at most :data:`MAX_RUNS`.
    """

    HELP = (
        "One metric of several runs over the steps of self-play, and the settings in which the runs differ. Unfinished "
        "runs are updated live."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("later", "metric(1)", "next metric", priority=True),
        binding("earlier", "metric(-1)", "previous metric", priority=True),
        binding("detach", "dismiss", "back"),
        binding("back", "dismiss", "back", show=False),
    ]

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self._paths = paths
        self._sources: list[LiveSource] = []
        self._metric_index = 0

    def compose(self) -> ComposeResult:
        """Yield the title, the chart and the table."""
        yield Static(id="compare-title", classes="line")
        yield ChartView(id="compare-chart", marks=False)
        with VerticalScroll(id="compare-below"):
            yield Static(id="compare-table")
        yield KeyLine()

    def on_mount(self) -> None:
        """Read the runs in a thread, since logs can be long, and follow them."""
        self.query_one("#compare-title", Static).update("reading …")
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show())
        self.run_worker(self._read, thread=True)
        self.set_interval(REFRESH_S, self._follow)

    def _read(self) -> None:
        sources = []
        for path in self._paths:
            with contextlib.suppress(TspinError):  # the run is damaged, or was removed meanwhile
                source = LiveSource(Run(path), self.app.clock)
                while not source.caught_up:
                    source.poll()
                sources.append(source)
        self.app.call_from_thread(self._show_sources, sources)

    def _show_sources(self, sources: list[LiveSource]) -> None:
        self._sources = sources
        if sources:
            self._show()
        else:
            self.app.show_message("none of these runs can be read", warning=True)
            self.app.close_screen(self)

    def _follow(self) -> None:
        """Read new events of the runs that are not finished."""
        changed = [source.poll() for source in self._sources if not source.view.finished]
        if any(changed):
            self._show()

    def _show(self) -> None:
        self._draw()
        self.query_one("#compare-table", Static).update(self._table())

    def _draw(self) -> None:
        metric, colours = _METRICS[self._metric_index], theme_colours(self.app)
        series = tuple(
            Series(abridge(source.run.name, 20), _self_play(source.view, metric)) for source in self._sources
        )
        zero = metric.startswith("advantage")
        self.query_one(ChartView).plot = Plot(series, unit="nats" if zero or "logps" in metric else "", zero=zero)
        title = Text.assemble(
            (metric, "bold"), (f"   {self._metric_index + 1} of {len(_METRICS)}, ← and →", colours["dim"])
        )
        self.query_one("#compare-title", Static).update(title)

    def _table(self) -> Table:
        colours, lines = theme_colours(self.app), palette(self.app).lines
        table = Table.grid(padding=(0, 3, 0, 0))
        table.add_column(style=colours["dim"])
        for _ in self._sources:
            table.add_column(overflow="fold")
        runs = [source.run for source in self._sources]
        table.add_row("", *(Text(printable(run.name), style=f"bold {lines[i]}") for i, run in enumerate(runs)))
        table.add_row("best", *map(_best, self._sources))
        for key, values in differences([run.outline for run in runs]).items():
            table.add_row(key, *(Text(printable(value)) for value in values))
        return table

    def action_metric(self, by: int) -> None:
        """Show the next metric, or the previous one."""
        self._metric_index = (self._metric_index + by) % len(_METRICS)
        self._draw()


def differences(outlines: list[Outline]) -> dict[str, list[str]]:
    """Return the settings that differ between plans, and the numbers of examples that do."""
    flat = [{**plan.settings, **{f"examples.{name}": n for name, n in plan.counts.items()}} for plan in outlines]
    keys = [key for key in dict.fromkeys(key for row in flat for key in row) if key not in _IGNORED_KEYS]
    rows = {key: ["–" if (value := row.get(key)) is None else str(value) for row in flat] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _self_play(view: RunView, metric: str) -> np.ndarray:
    parts = view.self_play
    return view.steps.column(metric)[parts[0].start if parts else len(view.steps) :]


def _best(source: LiveSource) -> Text:
    run, view = source.run, source.view
    metric = run.outline.best_metric
    value = view.evaluations.get(view.best or "", {}).get(metric)
    if view.best is None:
        return Text("–")
    return Text(f"{policy_label(view.best, run.warm)} {HEADINGS.get(metric, metric)} {format_metric(value)}")
