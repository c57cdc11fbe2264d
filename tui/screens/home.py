"""The first screen: the runs of the folder, and the way to a new one."""

from __future__ import annotations

from typing import ClassVar, cast

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

from ..keys import bound
from ..state.listing import Listed, ago, listed
from ..state.status import short, state_text
from ..theme import words_of
from ..widgets.key_line import KeyLine
from ..widgets.table import chosen_key
from .app_screen import AppScreen

_EVERY_S = 2.0
_FEW = 8  # cells of a sparkline where there is little room
_COLUMNS = {
    "-wide": ("run", "state", "iteration", "phases", "best", "current advantage", "last change"),
    "-medium": ("run", "state", "best", "current advantage"),
    "-narrow": ("run", "state", "best"),
}


_WELCOME = (
    ("n", "starts one. The recipe quickstart teaches a small model household commands, in a few minutes."),
    ("?", "says what can be done."),
    ("q", "leaves."),
)


class HomeScreen(AppScreen):
    """The list of runs."""

    HELP = "The runs of the folder, the latest first. Training goes on whether this app is open or not."
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("open", "open", "open", tooltip="Show the run", priority=True),
        bound("new", "app.new_run", "new run", tooltip="Choose a recipe, a model and data, and start"),
        bound("mark", "mark", "mark", tooltip="Mark runs to compare them"),
        bound("compare", "compare", "compare", tooltip="Curves and differing settings of the marked runs"),
        bound("resume", "resume", "resume", tooltip="Go on with a run that was stopped, killed or failed"),
        bound("quit", "app.quit", "quit", tooltip="Leave; what trains goes on"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, Listed] = {}
        self._marked: dict[str, None] = {}
        self._shown: tuple[str, dict[str, list[Text]]] = ("", {})

    def compose(self) -> ComposeResult:
        """A title, the table, and what to press where there is nothing yet."""
        yield Static(
            Text.assemble(("tspin-mlx", "bold"), f"  runs in {printable(str(self.app.folder))}"),
            classes="line",
            id="home-title",
        )
        yield DataTable(id="runs", cursor_type="row", zebra_stripes=False)
        yield Static(id="empty")
        yield KeyLine()

    def on_mount(self) -> None:
        """Look at the folder, now and every other second."""
        self.query_one("#runs").display = False
        self.set_interval(_EVERY_S, self.look)
        self.look()

    def on_screen_resume(self) -> None:
        """Back from another screen, where something may have been started."""
        self.look()

    def look(self) -> None:
        """Read the folder in a thread of its own."""
        if self.app.screen is self:
            self.run_worker(self._read, thread=True, exclusive=True, group="look")

    def _read(self) -> None:
        worker, found = get_current_worker(), listed(self.app.folder, list(self._runs.values()))
        if not worker.is_cancelled:
            self.app.call_from_thread(self.show, found)

    def show(self, runs: list[Listed]) -> None:
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
        if (size, rows) == self._shown:
            return
        chosen, self._shown = self.chosen, (size, rows)
        table.clear(columns=True)
        for heading in _COLUMNS[size]:
            table.add_column(heading, key=heading)
        for name, cells in rows.items():
            table.add_row(*cells, key=name)
        if chosen in self._runs:
            table.move_cursor(row=list(self._runs).index(chosen), animate=False)
        if self.focused is None:
            table.focus()

    def on_resize(self) -> None:
        """Other columns may fit now."""
        if self._runs:
            self.call_after_refresh(self.show, list(self._runs.values()))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without runs there is nothing to open, mark, compare or resume; and a finished one goes on no further."""
        if action == "resume":
            return self.chosen in self._runs and self._runs[self.chosen].about["state"] in ("interrupted", "failed")
        return bool(self._runs) or action not in ("open", "mark", "compare")

    @property
    def chosen(self) -> str | None:
        """Name of the run under the cursor."""
        return chosen_key(self.query_one("#runs", DataTable))

    def _cell(self, run: Listed, heading: str) -> Text:
        about, colours = run.about, words_of(self.app)
        if heading == "run":
            mark = "▪ " if run.path.name in self._marked else "  "
            return Text.assemble(
                (mark, colours["accent"]), abridge(about["name"], 28 if self.has_class("-wide") else 20)
            )
        if heading == "state":
            return (
                state_text(about["state"], colours)
                if about["state"] != "interrupted"
                else Text.assemble(("‖ ", colours["warning"]), "interrupted")
            )
        if heading == "iteration":
            return Text("–" if run.iteration is None else str(run.iteration), justify="right")
        if heading == "phases":
            return Text(f"{about['done']}/{about['phases']}", justify="right")
        if heading == "best":
            return Text(_best(about))
        if heading == "current advantage":
            last = f"{'–' if run.last is None else signed(run.last):>7}  "
            return Text.assemble(last, (run.current[0 if self.has_class("-wide") else -_FEW :], colours["accent"]))
        return Text(ago(self.app.clock() - run.touched), style=colours["dim"])

    def _welcome(self) -> RenderableType:
        key = f"bold {words_of(self.app)['accent']}"
        table = Table.grid(padding=(0, 3, 1, 0))
        for sign, told in _WELCOME:
            table.add_row(Text(sign, style=key), Text(told))
        return Group(Text("No runs here yet.\n", style="bold"), table)

    # --- what the keys do

    def on_data_table_row_highlighted(self) -> None:
        """Other keys make sense for another run."""
        self.refresh_bindings()

    def on_data_table_row_selected(self) -> None:
        """A click."""
        self.action_open()

    def action_open(self) -> None:
        """Show the run under the cursor."""
        if (name := self.chosen) is not None:
            self.app.open_run(self._runs[name].path)

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take the mark away."""
        if (name := self.chosen) is None:
            return
        if name in self._marked:
            del self._marked[name]
        else:
            self._marked[name] = None
        self.show(list(self._runs.values()))

    def action_compare(self) -> None:
        """Lay the marked runs over one another; without marks, all that have curves."""
        from .compare import MOST, CompareScreen

        names = list(self._marked) or [name for name, run in self._runs.items() if run.current][:MOST]
        if len(names) < 2:
            self.app.show_message("mark two or more runs with m", warning=True)
            return
        self.app.push_screen(CompareScreen([self._runs[name].path for name in names[:MOST]]))

    def action_resume(self) -> None:
        """Go on with the run under the cursor, and show it."""
        from tspin_mlx.jobs.control import resume
        from tspin_mlx.runs.run import Run

        if (name := self.chosen) is None:
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


def _best(about: dict[str, object]) -> str:
    if about["state"] == "damaged":
        return shorten(str(about["message"]), 40)
    if not about["best"]:
        return "–"
    metric, value = str(about["metric"]), cast("float", about["value"])
    return f"{policy_label(str(about['best']), bool(about['warm']))} {HEADINGS.get(metric, metric)} {short(value)}"
