"""A new run: recipe, model, data, the few settings that matter, what that means, and start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.suggester import SuggestFromList
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import get_current_worker

from tspin_mlx.base.errors import TspinError
from tspin_mlx.base.text import duration, printable
from tspin_mlx.runs.run import Run

from ..keys import bound
from ..state.processes import finished, shown
from ..state.status import memory
from ..theme import words_of
from ..widgets.form import Field, FormRow, Line
from ..widgets.key_line import KeyLine
from .app_screen import AppScreen

if TYPE_CHECKING:
    from ..state.draft import Draft, Outlook

_SETTLED_S = 0.6  # after the last key, before the plan is made again

FIELDS = (
    Field("recipe", "recipe", "A ready recipe's name (→ completes it), or a YAML file of yours.", is_file=True),
    Field("model", "model", "smollm2-135m, a Hub id such as Qwen/Qwen3-0.6B, a folder, or a GGUF file.", "model.path"),
    Field("train", "training data", "A JSONL, JSON, CSV or Parquet file, or hub:ID:SPLIT.", "data.train", is_file=True),
    Field("name", "name of the run", "Its folder in the folder of the runs.", "run.name"),
    Field("iterations", "iterations", "Rounds of self-play; the paper has 5.", "training.iterations"),
    Field("prompts", "prompts", "How many training prompts the model answers in each iteration.", "generation.prompts"),
    Field("tokens", "answer tokens", "The longest answer; good answers must fit.", "generation.max_tokens"),
    Field("rate", "learning rate", "The peak in each iteration; less is safer.", "training.learning_rate"),
    Field("batch", "batch size", "Triplets per optimiser step.", "training.batch_size"),
    Field("anchor", "anchor", "Weight of the expert's answer itself; small models need one.", "objective.nll_weight"),
    Field("warmup", "warm-up epochs", "Passes of plain supervised training before self-play.", "warmup.epochs"),
)  # fmt: skip
_ENDINGS = {"recipe": (".yaml", ".yml"), "train": (".jsonl", ".json", ".csv", ".parquet")}


class NewRunScreen(AppScreen):
    """A form beside what follows from it.

    Args:
        origin: a run to fork; its recipe and settings are the beginning.
    """

    HELP = "What is left empty is as the recipe has it. Everything is checked before anything is written."
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("start", "start", "start", tooltip="Check everything, and train in the background", priority=True),
        bound("pick", "pick", "pick a file", tooltip="Choose the file for this line", priority=True),
        bound("back", "dismiss", "back"),
    ]

    def __init__(self, origin: Run | None = None) -> None:
        super().__init__()
        self.origin = origin
        self._inherited: tuple[str, ...] = ()
        self._looked: Outlook | None = None
        self._plan: dict[str, Any] | str | None = None
        self._earlier: tuple[Any, int] | None = None
        self._timer: Timer | None = None
        self._starting = False

    def compose(self) -> ComposeResult:
        """The form, and beside it the data and the plan."""
        what = "New run" if self.origin is None else f"Fork of {self.origin.name}"
        yield Static(Text(what, style="bold"), classes="line", id="form-title")
        with Horizontal(id="form-parts"):
            with VerticalScroll(id="form", can_focus=False):
                for field in FIELDS:
                    suggester = SuggestFromList(self._recipes()) if field.id == "recipe" else None
                    yield FormRow(Line(field, "quickstart" if field.id == "recipe" else "", suggester))
            with VerticalScroll(id="outlook"):
                yield Static(id="outlook-text")
        yield Static(id="field-help")
        yield Static(id="command")
        yield KeyLine()

    @staticmethod
    def _recipes() -> list[str]:
        from tspin_mlx.recipe.catalog import packaged_recipes

        return [source.name for source in packaged_recipes()]

    def on_mount(self) -> None:
        """Begin with the recipe, or with the run that is forked."""
        if self.origin is not None:
            self._take_over(self.origin)
        self.query_one("#recipe", Line).focus()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show())
        self._settle(0.05)

    def _take_over(self, origin: Run) -> None:
        from ..state.draft import changes_of

        try:
            recipe, self._inherited = changes_of(origin)
        except TspinError as error:
            self.app.show_error(error)
            return
        self.query_one("#recipe", Line).value = recipe
        self.query_one("#name", Line).value = f"{origin.name}-2"

    # --- what was typed, and what follows

    @property
    def draft(self) -> Draft:
        """What was typed."""
        from ..state.draft import Draft

        typed = {field: self.query_one(f"#{field.id}", Line).value.strip() for field in FIELDS}
        changes = {field.key: value for field, value in typed.items() if field.key and value}
        inherited = dict(change.split("=", 1) for change in self._inherited)
        fork = None
        if self.origin is not None:
            fork = changes.pop("run.name", None) or f"{self.origin.name}-2"
        if self.app.folder != Path("runs"):
            inherited.setdefault("run.folder", str(self.app.folder))
        recipe = typed[FIELDS[0]] or "quickstart"
        return Draft(recipe, tuple(f"{key}={value}" for key, value in {**inherited, **changes}.items()), fork)

    def on_input_changed(self) -> None:
        """Think again when the fingers rest."""
        self._settle(_SETTLED_S)

    def _settle(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(seconds, self._think)
        self._show()

    def _think(self) -> None:
        if not self._starting:
            self._plan = None
            self.run_worker(self._look, thread=True, exclusive=True, group="look")
            self.run_worker(self._make_plan(), exclusive=True, group="plan")

    def _look(self) -> None:
        from ..state.draft import earlier_speed, look_at

        worker, draft = get_current_worker(), self.app.call_from_thread(lambda: self.draft)
        looked = look_at(draft)
        model = next((c.split("=", 1)[1] for c in draft.changes if c.startswith("model.path=")), None)
        earlier = earlier_speed(self.app.folder, model or str(looked.defaults.get("model.path")))
        if not worker.is_cancelled:
            self.app.call_from_thread(self._seen, looked, earlier)

    def _seen(self, looked: Outlook, earlier: tuple[Any, int] | None) -> None:
        self._looked, self._earlier = looked, earlier
        for field in FIELDS:
            if field.key:
                value = looked.defaults.get(field.key)
                if field.id == "name" and self.origin is None:
                    value = Path(self.draft.recipe).stem
                self.query_one(f"#{field.id}", Line).placeholder = "" if value is None else printable(str(value))
        self._show()

    async def _make_plan(self) -> None:
        draft = self.draft
        done = await finished(["plan", draft.recipe, *draft.changes, "--json"])
        self._plan = json.loads(done.output) if done.code == 0 else done.complaint
        self._show()

    # --- what is shown

    def _show(self) -> None:
        line = self.focused
        colours = words_of(self.app)
        if isinstance(line, Line):
            self.query_one("#field-help", Static).update(Text(line.field.help, style=colours["dim"]))
        self.query_one("#outlook-text", Static).update(Text("\n").join(self._outlook()))
        command = Text.assemble(("$ ", colours["accent"]), printable(shown(self.draft.arguments)))
        self.query_one("#command", Static).update(command)

    def on_descendant_focus(self) -> None:
        """The help is about the line that has the focus."""
        self._show()

    def _outlook(self) -> Iterator[Text]:
        colours = words_of(self.app)
        if self._starting:
            yield Text("Checking the model and the data …", style="bold")
            yield Text("A model that is not here yet is fetched; the built-in one is 93 MB.", style=colours["dim"])
            return
        if self._looked is not None and self._looked.error:
            yield Text(printable(self._looked.error, keep_newlines=True), style=colours["error"])
            return
        yield Text("Plan", style="bold")
        yield from self._plan_lines()
        yield Text()
        yield Text("What is trained on", style="bold")
        if self._looked is None:
            yield Text("reading …", style=colours["dim"])
            return
        for place, prompt, answer in self._looked.rows[:6]:
            yield Text.assemble((f"{printable(place)}  ", colours["dim"]), printable(prompt))
            yield Text.assemble(("→ ", colours["accent"]), printable(answer)) if answer else Text()

    def _plan_lines(self) -> Iterator[Text]:
        from tspin_mlx.view.estimate import estimate

        colours = words_of(self.app)
        if not isinstance(self._plan, dict):
            wrong = self._plan is not None
            text = printable(self._plan, keep_newlines=True) if self._plan is not None else "working it out …"
            yield Text(text, style=colours["error" if wrong else "dim"])
            return
        plan, speed = self._plan, self._earlier[0] if self._earlier else None
        cost = estimate(plan, self._looked.characters if self._looked else None, speed)
        counts = plan["counts"]
        rows = [
            ("examples", f"{counts['train']} training, {counts['validation']} validation, {counts['test']} test"),
            ("steps", f"{cost.steps:,} of the optimiser"),
            ("tokens", f"about {cost.train_tokens:,} trained, {cost.answers:,} answers of up to "
                       f"{plan['recipe']['generation']['max_tokens']}"),
            *self._measured(plan, cost.seconds),
        ]  # fmt: skip
        for name, value in rows:
            yield Text.assemble((f"{name:<10}", colours["dim"]), value)

    def _measured(self, plan: dict[str, Any], seconds: float | None) -> Iterator[tuple[str, str]]:
        """Time, memory and disk, from an earlier run with the model."""
        from tspin_mlx.view.estimate import disk_bytes

        if self._earlier is None or seconds is None:
            yield "time", "known after the first steps: no run with this model is here yet"
            return
        speed, adapter = self._earlier
        yield "time", f"about {duration(seconds)}, at the pace of the run {printable(speed.run)}"
        if speed.peak_bytes is not None:
            yield "memory", f"about {memory(speed.peak_bytes, None)}, as that run needed"
        if adapter:
            needed = disk_bytes(plan["recipe"]["training"]["iterations"], adapter)
            yield "disk", f"up to {needed / 1e6:.0f} MB"

    # --- what the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only some lines are for files."""
        return action != "pick" or (isinstance(self.focused, Line) and self.focused.field.is_file)

    def action_pick(self) -> None:
        """Choose a file for the line."""
        from .picker import FilePicker

        line = self.focused
        if isinstance(line, Line) and line.field.is_file:

            def take(path: Path | None) -> None:
                if path is not None:
                    line.value = str(path)

            self.app.push_screen(FilePicker(Path.cwd(), _ENDINGS[line.field.id]), take)

    def action_start(self) -> None:
        """Check everything and begin."""
        if not self._starting:
            self._starting = True
            self._show()
            self.run_worker(self._start(), exclusive=True, group="start")

    async def _start(self) -> None:
        done = await finished([*self.draft.arguments, "--detach", "--json"])
        self._starting = False
        if done.code != 0:
            self._plan = done.complaint
            self._show()
            return
        made = json.loads(done.output)
        if not made["started"]:
            self._plan = f"{made['run']} is there already, and finished.\n→ Give the new run another name."
            self._show()
            return
        self.app.close_screen(self)
        self.app.open_run(Path(made["run"]))
