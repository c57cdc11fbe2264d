"""Home screen: the table of runs in the folder."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Static
from textual.worker import get_current_worker

from tspin_mlx.base.errors import TspinError
from tspin_mlx.base.text import abridge, printable, shorten, signed
from tspin_mlx.evaluation.metrics import HEADINGS
from tspin_mlx.recipe.policy_names import policy_label

from ..keys import binding
from ..state.listing import RunEntry, list_runs, time_ago
from ..state.status import format_metric, state_text
from ..theme import theme_colours
from ..widgets.key_line import KeyLine
from ..widgets.table import cursor_row_key
from .app_screen import AppScreen

_REFRESH_S = 2.0
_SHORT_SPARKLINE = 8  # cells, on screens that are not wide
_COLUMNS = {
    "-wide": ("run", "state", "iteration", "phases", "best", "current advantage", "last change"),
    "-medium": ("run", "state", "best", "current advantage"),
    "-narrow": ("run", "state", "best"),
}
_WELCOME = (
    ("n", "start a run. The quickstart recipe teaches a small model household commands in a few minutes."),
    ("?", "show help"),
    ("q", "quit"),
)


class HomeScreen(AppScreen):
    """The table of runs, or a welcome text if there are none."""

    HELP = "The runs in the folder, latest first. Training continues whether or not this app is open."
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("open", "open", "open", tooltip="Open the run", priority=True),
        binding("new", "app.new_run", "new run", tooltip="Choose a recipe, a model and data, and start"),
        binding("mark", "mark", "mark", tooltip="Mark the run for comparison"),
        binding("compare", "compare", "compare", tooltip="Compare curves and settings of the marked runs"),
        binding("resume", "resume", "resume", tooltip="Resume a run that was stopped or killed, or failed"),
        binding("quit", "app.quit", "quit", tooltip="Quit; training continues"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, RunEntry] = {}
        self._marked: dict[str, None] = {}  # an ordered set
        self._rows: tuple[str, dict[str, list[Text]]] = ("", {})  # screen size and cells of the table

    def compose(self) -> ComposeResult:
        """Yield the title, the table and the welcome text."""
        yield Static(
            Text.assemble(("tspin-mlx", "bold"), f"  runs in {printable(str(self.app.folder))}"),
            classes="line",
            id="home-title",
        )
        yield DataTable(id="runs", cursor_type="row", zebra_stripes=False)
        yield Static(id="empty")
        yield KeyLine()

    def on_mount(self) -> None:
        """Read the folder now and at intervals."""
        self.query_one("#runs").display = False
        self.set_interval(_REFRESH_S, self._reload)
        self._reload()

    def on_screen_resume(self) -> None:
        """Read the folder again: another screen may have started a run."""
        self._reload()

    def _reload(self) -> None:
        if self.app.screen is self:
            self.run_worker(self._read, thread=True, exclusive=True, group="read")

    def _read(self) -> None:
        worker, runs = get_current_worker(), list_runs(self.app.folder, list(self._runs.values()))
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show, runs)

    def _show(self, runs: list[RunEntry]) -> None:
        """Fill the table; the cursor stays on its run."""
        before, self._runs = self._runs, {run.path.name: run for run in runs}
        if bool(before) != bool(runs):
            self.refresh_bindings()
        self._marked = {name: None for name in self._marked if name in self._runs}
        table, empty = self.query_one("#runs", DataTable), self.query_one("#empty", Static)
        table.display, empty.display = bool(runs), not runs
        if not runs:
            empty.update(self._welcome())
            return
        size = next((name for name in ("-wide", "-medium") if self.has_class(name)), "-narrow")
        rows = {name: [self._cell(run, heading) for heading in _COLUMNS[size]] for name, run in self._runs.items()}
        if (size, rows) == self._rows:
            return
        selected, self._rows = self.selected, (size, rows)
        table.clear(columns=True)
        for heading in _COLUMNS[size]:
            table.add_column(heading, key=heading)
        for name, cells in rows.items():
            table.add_row(*cells, key=name)
        if selected in self._runs:
            table.move_cursor(row=list(self._runs).index(selected), animate=False)
        if self.focused is None:
            table.focus()

    def on_resize(self) -> None:
        """Choose the columns that fit."""
        if self._runs:
            self.call_after_refresh(self._show, list(self._runs.values()))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the actions that need a run if there is none, and resume unless the run can be resumed."""
        if action == "resume":
            run = self._runs.get(self.selected or "")
            return run is not None and run.summary["state"] in ("interrupted", "failed")
        return bool(self._runs) or action not in ("open", "mark", "compare")

    @property
    def selected(self) -> str | None:
        """The name of the run under the cursor."""
        return cursor_row_key(self.query_one("#runs", DataTable))

    def _cell(self, run: RunEntry, heading: str) -> Text:
        summary, colours = run.summary, theme_colours(self.app)
        if heading == "run":
            mark = "▪ " if run.path.name in self._marked else "  "
            return Text.assemble(
                (mark, colours["accent"]), abridge(summary["name"], 28 if self.has_class("-wide") else 20)
            )
        if heading == "state":
            if summary["state"] == "interrupted":  # without the hint about the key
                return Text.assemble(("‖ ", colours["warning"]), "interrupted")
            return state_text(summary["state"], colours)
        if heading == "iteration":
            return Text("–" if run.iteration is None else str(run.iteration), justify="right")
        if heading == "phases":
            return Text(f"{summary['done']}/{summary['phases']}", justify="right")
        if heading == "best":
            return Text(_best(summary))
        if heading == "current advantage":
            value = f"{'–' if run.advantage is None else signed(run.advantage):>7}  "
            sparkline = run.sparkline if self.has_class("-wide") else run.sparkline[-_SHORT_SPARKLINE:]
            return Text.assemble(value, (sparkline, colours["accent"]))
        return Text(time_ago(self.app.clock() - run.updated), style=colours["dim"])

    def _welcome(self) -> RenderableType:
        style = f"bold {theme_colours(self.app)['accent']}"
        table = Table.grid(padding=(0, 3, 1, 0))
        for key, description in _WELCOME:
            table.add_row(Text(key, style=style), Text(description))
        return Group(Text("No runs here yet.\n", style="bold"), table)

    # --- actions

    def on_data_table_row_highlighted(self) -> None:
        """Enable the actions for the run under the cursor."""
        self.refresh_bindings()

    def on_data_table_row_selected(self) -> None:
        """Open the run that was clicked."""
        self.action_open()

    def action_open(self) -> None:
        """Show the run under the cursor."""
        if (name := self.selected) is not None:
            self.app.open_run(self._runs[name].path)

    def action_mark(self) -> None:
        """Mark or unmark the run under the cursor."""
        if (name := self.selected) is None:
            return
        if name in self._marked:
            del self._marked[name]
        else:
            self._marked[name] = None
        self._show(list(self._runs.values()))

    def action_compare(self) -> None:
        """Compare the marked runs; without marks, all runs that have curves."""
        from .compare import MAX_RUNS, CompareScreen

        names = list(self._marked) or [name for name, run in self._runs.items() if run.sparkline][:MAX_RUNS]
        if len(names) < 2:
            self.app.show_message("mark two or more runs with m", warning=True)
            return
        self.app.push_screen(CompareScreen([self._runs[name].path for name in names[:MAX_RUNS]]))

    def action_resume(self) -> None:
        """Resume the run under the cursor, and show it."""
        from tspin_mlx.jobs.control import resume
        from tspin_mlx.runs.run import Run

        if (name := self.selected) is None:
            return
        try:
            run = Run(self._runs[name].path)
            if run.is_finished:
                self.app.show_message(f"{name} is finished")
                return
            resume(run)
        except TspinError as error:
            self.app.show_error(error)
        else:
            self.app.open_run(run.path)


def _best(summary: dict[str, Any]) -> str:
    if summary["state"] == "damaged":
        return shorten(summary["message"], 40)
    if not summary["best"]:
        return "–"
    heading = HEADINGS.get(summary["metric"], summary["metric"])
    return f"{policy_label(summary['best'], summary['warm'])} {heading} {format_metric(summary['value'])}"
