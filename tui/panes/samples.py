"""3 Samples: prompts with the expert's answer and the model's, side by side."""

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

from ..keys import bound
from ..state.status import Now
from ..theme import words_of
from ..widgets.table import chosen_key
from .pane import Pane

_ORDERS: tuple[Order, ...] = ("file", "current", "historical")
_SIDE_BY_SIDE = 84  # cells from which on answers stand beside one another
_SMALL = 50  # cells up to which there are no empty lines between them


class SamplesPane(Pane):
    """A list of prompts, and the answers to the one under the cursor."""

    HELP = (
        "Held-out prompts: y is the expert's answer, y′ that of the policy before, y0 that of the initial policy, each "
        "with its log-probability under the policy after the iteration, in nats. Training triplets: what the "
        "iteration was trained on, sampled before it began."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("earlier", "step(-1)", "earlier", tooltip="The iteration before", priority=True),
        bound("later", "step(1)", "later", show=False, tooltip="The next iteration", priority=True),
        bound("answers", "answers", "answers", tooltip="To the answers, to scroll them, and back"),
        bound("order", "order", "order", tooltip="As in the file, by current, or by historical advantage"),
        bound("data", "data", "data", tooltip="Held-out prompts, or the triplets it was trained on"),
    ]

    def __init__(self, run: Run, *, id: str) -> None:
        super().__init__(run, id=id)
        self._held_out, self._at, self._order_by = True, -1, 0
        self._places: tuple[str | int, ...] = ()
        self._samples: list[Sample] = []
        self._damage, self._seen = "", False
        self._shown: str | None = None  # whose answers are shown
        self._warm = run.warm

    def compose(self) -> ComposeResult:
        """A line that says what is shown, the list, the answers."""
        yield Static(id="samples-title", classes="line")
        with Container(id="samples-parts"):
            yield DataTable(id="samples-list", cursor_type="row")
            with VerticalScroll(id="samples-detail"):
                yield Static(id="answers")

    def on_mount(self) -> None:
        """Nothing yet."""
        self._list()

    def recolour(self) -> None:
        """Write title, list and answers anew."""
        self._list()

    def take_focus(self) -> None:
        """The cursor keys belong to the list."""
        self.query_one(DataTable).focus()

    def show(self, now: Now) -> None:
        """Read the samples when there are more of them; whoever looks at the last ones goes on to the new ones."""
        places, first, self._seen = self._find(), not self._seen, True
        if first or places != self._places:
            if self._at >= len(self._places) - 1:
                self._at = len(places) - 1
            self._places = places
            self._read()

    def _find(self) -> tuple[str | int, ...]:
        """The policies that were measured, or the iterations that have triplets."""
        return tuple(evaluated(self.run)) if self._held_out else tuple(iterations_of(self.run))

    def _read(self) -> None:
        self._samples, self._damage = [], ""
        try:
            if self._places:
                place = self._places[self._at]
                self._samples = held_out(self.run, place) if isinstance(place, str) else trained_on(self.run, place)
        except DamagedError as error:
            self._damage = error.message
        self._list()

    @property
    def _sorted(self) -> list[Sample]:
        return ordered(self._samples, _ORDERS[self._order_by])

    def _title(self) -> Text:
        colours = words_of(self.app)
        places = self._places
        what = "held out" if self._held_out else "trained on"
        if not places:
            return Text.assemble((f"{what}: {'nothing yet' if self._seen else 'reading …'}", colours["dim"]))
        place = places[self._at]
        label = policy_label(place, self._warm) if isinstance(place, str) else f"iteration {place}"
        order: str = _ORDERS[self._order_by]
        if self.screen.has_class("-narrow"):
            order = {"file": "as in the file", "current": "by current", "historical": "by historical"}[order]
        else:
            order = "in the file's order" if order == "file" else f"least {order} advantage first"
        left, right = ("‹ " if self._at else "  "), (" ›" if self._at < len(places) - 1 else "  ")
        return Text.assemble(
            (left, colours["accent"]), (label, "bold"), (right, colours["accent"]),
            (f"   {len(self._samples)} {what}, {order}", colours["dim"]), no_wrap=True, overflow="ellipsis",
        )  # fmt: skip

    def _list(self) -> None:
        self.query_one("#samples-title", Static).update(self._title())
        table = self.query_one(DataTable)
        row, chosen = table.cursor_row, chosen_key(table)
        table.clear(columns=True)
        wide = self.screen.has_class("-wide")
        room = 26 if wide else max(16, self.size.width - 26)
        table.add_column("prompt", width=room)
        scored = any(sample.logps for sample in self._samples)
        if scored:
            table.add_column(Text("current", justify="right"), width=8)
            table.add_column(Text("hist." if wide else "historical", justify="right"), width=8 if wide else 10)
        for sample in self._sorted:
            cells = [Text(_advantage(value), justify="right") for value in (sample.current, sample.historical)]
            table.add_row(Text(shorten(sample.prompt.text, room)), *(cells if scored else ()), key=sample.prompt.id)
        known = [sample.prompt.id for sample in self._sorted]
        if known:
            table.move_cursor(row=known.index(chosen) if chosen in known else min(row, len(known) - 1), animate=False)
        self._details()

    def on_data_table_row_highlighted(self) -> None:
        """Another prompt."""
        self._details()

    def on_resize(self) -> None:
        """Answers stand beside one another where there is room."""
        self.call_after_refresh(self._list)

    def _details(self) -> None:
        chosen = chosen_key(self.query_one(DataTable))
        sample = next((sample for sample in self._samples if sample.prompt.id == chosen), None)
        detail = self.query_one("#samples-detail")
        if chosen != self._shown:
            self._shown = chosen
            detail.scroll_home(animate=False)
        if sample is not None:
            width = detail.content_size.width or 80
            self.query_one("#answers", Static).update(answers(sample, width, words_of(self.app)))
        elif not self._samples:
            waiting = "Answers appear here when there are some." if self._seen else "reading …"
            told = printable(self._damage) or waiting
            self.query_one("#answers", Static).update(Text(told, style=words_of(self.app)["dim"]))

    # --- what the keys do

    def action_step(self, by: int) -> None:
        """Another iteration; the prompt stays."""
        if self._places:
            self._at = max(0, min(len(self._places) - 1, self._at + by))
            self._read()

    def action_order(self) -> None:
        """Another order."""
        self._order_by = (self._order_by + 1) % len(_ORDERS)
        self._list()

    def action_answers(self) -> None:
        """The cursor keys go to the answers, or back to the list."""
        detail = self.query_one("#samples-detail")
        (self.query_one(DataTable) if detail.has_focus else detail).focus()

    def action_data(self) -> None:
        """Held-out prompts, or training triplets."""
        self._held_out = not self._held_out
        self._places = self._find()
        self._at = len(self._places) - 1
        self._read()


def answers(sample: Sample, width: int, colours: dict[str, str]) -> RenderableType:
    """A prompt and its answers, beside one another if there is room."""
    head = Text.assemble((printable(sample.prompt.text, keep_newlines=True), "bold"))
    told = Text.assemble(
        ("current ", colours["dim"]), (f"{_advantage(sample.current)}   ", colours["line0"]),
        ("historical ", colours["dim"]), (_advantage(sample.historical), colours["line1"]),
    )  # fmt: skip
    given = (
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
            printable(response.text, keep_newlines=True) or "(nothing)",
        )
        for (title, response), logp in itertools.zip_longest(given, sample.logps)
        if response is not None
    ]
    gap = [Text()] if width > _SMALL else []
    lines: list[RenderableType] = [head, *gap, *([told, Text()] if sample.logps else [])]
    if width < _SIDE_BY_SIDE:
        return Group(*lines, *(line for part in parts for line in (part, *gap)))
    table = Table.grid(padding=(0, 3, 0, 0), expand=True)
    for _ in parts:
        table.add_column(ratio=1, overflow="fold")
    table.add_row(*parts)
    return Group(*lines, table)


def _advantage(value: float | None) -> str:
    return "–" if value is None else signed(value)
