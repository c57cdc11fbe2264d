"""Samples pane: prompts with the expert's answer and the model's answers, side by side."""

from __future__ import annotations

import itertools
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import DataTable, Static

from tspin_mlx.base.errors import DamagedError
from tspin_mlx.base.text import printable, shorten, signed
from tspin_mlx.recipe.policy_names import policy_label
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.samples import Order, Sample, evaluated, held_out, iterations_of, ordered, trained_on

from ..keys import binding
from ..state.status import RunStatus
from ..theme import theme_colours
from ..widgets.table import cursor_row_key
from .pane import Pane

_ORDERS: tuple[Order, ...] = ("file", "current", "historical")
_SIDE_BY_SIDE_WIDTH = 84  # from this width on, in cells, answers are shown side by side
_COMPACT_WIDTH = 50  # up to this width there are no empty lines between them


class SamplesPane(Pane):
    """A table of prompts, and the answers to the prompt under the cursor."""

    HELP = (
        "Held-out prompts: y is the expert's answer, y′ the previous policy's, y0 the initial policy's, each with its "
        "log-probability in nats under the policy after the iteration. Training triplets: the data that the iteration "
        "was trained on, sampled before it began."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("earlier", "step(-1)", "earlier", tooltip="Previous iteration", priority=True),
        binding("later", "step(1)", "later", show=False, tooltip="Next iteration", priority=True),
        binding("answers", "answers", "answers", tooltip="Move between the prompts and the answers, to scroll"),
        binding("order", "order", "order", tooltip="Sort by file order, current or historical advantage"),
        binding("data", "data", "data", tooltip="Switch between held-out prompts and training triplets"),
    ]

    def __init__(self, run: Run, *, id: str) -> None:
        super().__init__(run, id=id)
        self._held_out, self._index, self._order_index = True, -1, 0
        self._sources: tuple[str | int, ...] = ()  # policies with held-out samples, or iterations with triplets
        self._samples: list[Sample] = []
        self._error, self._was_shown = "", False
        self._prompt_id: str | None = None  # of the prompt whose answers are shown
        self._warm = run.warm

    def compose(self) -> ComposeResult:
        """Yield a title, the table of prompts, and the answers."""
        yield Static(id="samples-title", classes="line")
        with Container(id="samples-parts"):
            yield DataTable(id="samples-list", cursor_type="row")
            with VerticalScroll(id="samples-detail"):
                yield Static(id="answers")

    def on_mount(self) -> None:
        """Show that nothing is read yet."""
        self._show_table()

    def recolour(self) -> None:
        """Render the title, the table and the answers again."""
        self._show_table()

    def take_focus(self) -> None:
        """Focus the table of prompts."""
        self.query_one(DataTable).focus()

    def show(self, status: RunStatus) -> None:
        """Read the samples if there are new ones; if the latest ones were shown, show the new ones."""
        sources, is_first, self._was_shown = self._find_sources(), not self._was_shown, True
        if is_first or sources != self._sources:
            if self._index >= len(self._sources) - 1:
                self._index = len(sources) - 1
            self._sources = sources
            self._read()

    def _find_sources(self) -> tuple[str | int, ...]:
        """Return the evaluated policies, or the iterations that have triplets."""
        return tuple(evaluated(self.run)) if self._held_out else tuple(iterations_of(self.run))

    def _read(self) -> None:
        self._samples, self._error = [], ""
        try:
            if self._sources:
                source = self._sources[self._index]
                self._samples = held_out(self.run, source) if isinstance(source, str) else trained_on(self.run, source)
        except DamagedError as error:
            self._error = error.message
        self._show_table()

    @property
    def _sorted(self) -> list[Sample]:
        return ordered(self._samples, _ORDERS[self._order_index])

    def _title(self) -> Text:
        colours = theme_colours(self.app)
        kind = "held out" if self._held_out else "trained on"
        if not self._sources:
            return Text.assemble((f"{kind}: {'nothing yet' if self._was_shown else 'reading …'}", colours["dim"]))
        source = self._sources[self._index]
        label = policy_label(source, self._warm) if isinstance(source, str) else f"iteration {source}"
        order: str = _ORDERS[self._order_index]
        if self.screen.has_class("-narrow"):
            order = {"file": "in file order", "current": "by current", "historical": "by historical"}[order]
        else:
            order = "in file order" if order == "file" else f"lowest {order} advantage first"
        left, right = ("‹ " if self._index else "  "), (" ›" if self._index < len(self._sources) - 1 else "  ")
        return Text.assemble(
            (left, colours["accent"]), (label, "bold"), (right, colours["accent"]),
            (f"   {len(self._samples)} {kind}, {order}", colours["dim"]), no_wrap=True, overflow="ellipsis",
        )  # fmt: skip

    def _show_table(self) -> None:
        self.query_one("#samples-title", Static).update(self._title())
        table = self.query_one(DataTable)
        cursor_row, cursor_key = table.cursor_row, cursor_row_key(table)
        table.clear(columns=True)
        wide = self.screen.has_class("-wide")
        prompt_width = 26 if wide else max(16, self.size.width - 26)
        table.add_column("prompt", width=prompt_width)
        has_logps = any(sample.logps for sample in self._samples)
        if has_logps:
            table.add_column(Text("current", justify="right"), width=8)
            table.add_column(Text("hist." if wide else "historical", justify="right"), width=8 if wide else 10)
        ids = []
        for sample in self._sorted:
            ids.append(sample.prompt.id)
            advantages = [Text(_advantage(value), justify="right") for value in (sample.current, sample.historical)]
            cells = [Text(shorten(sample.prompt.text, prompt_width)), *(advantages if has_logps else ())]
            table.add_row(*cells, key=sample.prompt.id)
        if ids:
            row = ids.index(cursor_key) if cursor_key in ids else min(cursor_row, len(ids) - 1)
            table.move_cursor(row=row, animate=False)
        self._show_answers()

    def on_data_table_row_highlighted(self) -> None:
        """Show the answers to the prompt under the cursor."""
        self._show_answers()

    def on_resize(self) -> None:
        """Lay the table and the answers out for the new width."""
        self.call_after_refresh(self._show_table)

    def _show_answers(self) -> None:
        prompt_id = cursor_row_key(self.query_one(DataTable))
        sample = next((sample for sample in self._samples if sample.prompt.id == prompt_id), None)
        detail = self.query_one("#samples-detail")
        if prompt_id != self._prompt_id:
            self._prompt_id = prompt_id
            detail.scroll_home(animate=False)
        if sample is not None:
            width = detail.content_size.width or 80
            self.query_one("#answers", Static).update(answers(sample, width, theme_colours(self.app)))
        elif not self._samples:
            waiting = "There are no answers yet." if self._was_shown else "reading …"
            text = printable(self._error) or waiting
            self.query_one("#answers", Static).update(Text(text, style=theme_colours(self.app)["dim"]))

    # --- actions

    def action_step(self, by: int) -> None:
        """Show the previous or the next iteration; the cursor stays on its prompt."""
        if self._sources:
            self._index = max(0, min(len(self._sources) - 1, self._index + by))
            self._read()

    def action_order(self) -> None:
        """Switch to the next sort order."""
        self._order_index = (self._order_index + 1) % len(_ORDERS)
        self._show_table()

    def action_answers(self) -> None:
        """Focus the answers, or the table again."""
        detail = self.query_one("#samples-detail")
        (self.query_one(DataTable) if detail.has_focus else detail).focus()

    def action_data(self) -> None:
        """Switch between held-out prompts and training triplets."""
        self._held_out = not self._held_out
        self._sources = self._find_sources()
        self._index = len(self._sources) - 1
        self._read()


def answers(sample: Sample, width: int, colours: dict[str, str]) -> RenderableType:
    """Render a prompt and its answers, side by side if there is room."""
    prompt = Text.assemble((printable(sample.prompt.text, keep_newlines=True), "bold"))
    advantages = Text.assemble(
        ("current ", colours["dim"]), (f"{_advantage(sample.current)}   ", colours["line0"]),
        ("historical ", colours["dim"]), (_advantage(sample.historical), colours["line1"]),
    )  # fmt: skip
    responses = (
        ("expert  y", sample.prompt.annotated),
        ("synthetic  y′", sample.synthetic),
        ("proto-synthetic  y0", sample.proto_synthetic),
        ("after the iteration", sample.answer),
    )
    parts = [
        Text.assemble(
            (title, colours["dim"]),
            ("" if logp is None else f"  {signed(logp)}", ""),
            ("  cut off" if response.finish_reason == "length" else "", colours["warning"]),
            "\n",
            printable(response.text, keep_newlines=True) or "(empty)",
        )
        for (title, response), logp in itertools.zip_longest(responses, sample.logps)
        if response is not None
    ]
    gap = [Text()] if width > _COMPACT_WIDTH else []
    lines: list[RenderableType] = [prompt, *gap, *([advantages, Text()] if sample.logps else [])]
    if width < _SIDE_BY_SIDE_WIDTH:
        return Group(*lines, *(line for part in parts for line in (part, *gap)))
    table = Table.grid(padding=(0, 3, 0, 0), expand=True)
    for _ in parts:
        table.add_column(ratio=1, overflow="fold")
    table.add_row(*parts)
    return Group(*lines, table)


def _advantage(value: float | None) -> str:
    return "–" if value is None else signed(value)
