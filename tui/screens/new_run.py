"""New-run screen: a form for recipe, model, data and settings, with a preview that updates after a debounce."""

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

from ..keys import binding
from ..state.processes import command_line, run_command
from ..state.status import format_memory
from ..theme import theme_colours
from ..widgets.form import Field, FieldInput, FormRow
from ..widgets.key_line import KeyLine
from .app_screen import AppScreen

if TYPE_CHECKING:
    from tspin_mlx.view.estimate import Speed

    from ..state.draft import Draft, DraftPreview

_DEBOUNCE_S = 0.6  # from the last keystroke until the preview is updated

FIELDS = (
    Field("recipe", "recipe", "A built-in recipe (→ completes its name), or your own YAML file.", is_file=True),
    Field("model", "model", "smollm2-135m, a Hub id such as Qwen/Qwen3-0.6B, a folder, or a GGUF file.", "model.path"),
    Field("train", "training data", "A JSONL, JSON, CSV or Parquet file, or hub:ID:SPLIT.", "data.train", is_file=True),
    Field("name", "run name", "Also the name of its folder.", "run.name"),
    Field("iterations", "iterations", "Rounds of self-play; the paper uses 5.", "training.iterations"),
    Field("prompts", "prompts", "Training prompts that the model answers in each iteration.", "generation.prompts"),
    Field("tokens", "answer tokens", "The longest answer; good answers must fit in it.", "generation.max_tokens"),
    Field("rate", "learning rate", "The peak in each iteration; lower is safer.", "training.learning_rate"),
    Field("batch", "batch size", "Triplets per optimiser step.", "training.batch_size"),
    Field("anchor", "anchor", "NLL weight of the expert's answer; small models need one.", "objective.nll_weight"),
    Field("warmup", "warm-up epochs", "Epochs of supervised training before self-play.", "warmup.epochs"),
)  # fmt: skip
_SUFFIXES = {"recipe": (".yaml", ".yml"), "train": (".jsonl", ".json", ".csv", ".parquet")}


class NewRunScreen(AppScreen):
    """The form, next to the plan and the first rows of the data.

    Args:
        origin: a run to fork; the form starts with its recipe and settings.
    """

    HELP = "Empty fields use the recipe's value. Everything is checked before anything is written."
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("start", "start", "start", tooltip="Check everything, then train in the background", priority=True),
        binding("pick", "pick", "pick a file", tooltip="Choose a file for this field", priority=True),
        binding("back", "dismiss", "back"),
    ]

    def __init__(self, origin: Run | None = None) -> None:
        super().__init__()
        self.origin = origin
        self._inherited: tuple[str, ...] = ()
        self._preview: DraftPreview | None = None
        self._plan: dict[str, Any] | None = None
        self._plan_error = ""
        self._speed: tuple[Speed, int] | None = None  # of an earlier run with the model, and the size of its adapter
        self._debounce_timer: Timer | None = None
        self._starting = False

    def compose(self) -> ComposeResult:
        """Yield the form, the preview, the help of the focused field, and the command."""
        title = "New run" if self.origin is None else f"Fork of {self.origin.name}"
        yield Static(Text(title, style="bold"), classes="line", id="form-title")
        with Horizontal(id="form-parts"):
            with VerticalScroll(id="form", can_focus=False):
                for field in FIELDS:
                    suggester = SuggestFromList(self._recipes()) if field.id == "recipe" else None
                    yield FormRow(FieldInput(field, "quickstart" if field.id == "recipe" else "", suggester))
            with VerticalScroll(id="preview"):
                yield Static(id="preview-text")
        yield Static(id="field-help")
        yield Static(id="command")
        yield KeyLine()

    @staticmethod
    def _recipes() -> list[str]:
        from tspin_mlx.recipe.catalog import packaged_recipes

        return [source.name for source in packaged_recipes()]

    def on_mount(self) -> None:
        """Fill the form from the run to fork, if any, and focus the recipe."""
        if self.origin is not None:
            self._fill_from(self.origin)
        self.query_one("#recipe", FieldInput).focus()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show())
        self._debounce(0.05)

    def _fill_from(self, origin: Run) -> None:
        from ..state.draft import overrides_of

        try:
            recipe, self._inherited = overrides_of(origin)
        except TspinError as error:
            self.app.show_error(error)
            return
        self.query_one("#recipe", FieldInput).value = recipe
        self.query_one("#name", FieldInput).value = f"{origin.name}-2"

    # --- the draft and its preview

    @property
    def draft(self) -> Draft:
        """The draft that the form describes."""
        from ..state.draft import Draft

        typed = {field: self.query_one(f"#{field.id}", FieldInput).value.strip() for field in FIELDS}
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
        """Update the preview once the user stops typing."""
        self._debounce(_DEBOUNCE_S)

    def _debounce(self, seconds: float) -> None:
        if self._debounce_timer is not None:
            self._debounce_timer.stop()
        self._debounce_timer = self.set_timer(seconds, self._update_preview)
        self._show()

    def _update_preview(self) -> None:
        if not self._starting:
            self._plan, self._plan_error = None, ""
            self.run_worker(self._read_preview, thread=True, exclusive=True, group="preview")
            self.run_worker(self._make_plan(), exclusive=True, group="plan")

    def _read_preview(self) -> None:
        from ..state.draft import latest_speed, preview_draft

        worker, draft = get_current_worker(), self.app.call_from_thread(lambda: self.draft)
        preview = preview_draft(draft)
        model = next((o.removeprefix("model.path=") for o in draft.overrides if o.startswith("model.path=")), None)
        speed = latest_speed(self.app.folder, model or str(preview.defaults.get("model.path")))
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show_preview, preview, speed)

    def _show_preview(self, preview: DraftPreview, speed: tuple[Speed, int] | None) -> None:
        self._preview, self._speed = preview, speed
        for field in FIELDS:
            if field.key:
                value = preview.defaults.get(field.key)
                if field.id == "name" and self.origin is None:
                    value = Path(self.draft.recipe).stem
                self.query_one(f"#{field.id}", FieldInput).placeholder = "" if value is None else printable(str(value))
        self._show()

    async def _make_plan(self) -> None:
        draft = self.draft
        result = await run_command(["plan", draft.recipe, *draft.overrides, "--json"])
        if result.exit_code == 0:
            self._plan, self._plan_error = json.loads(result.stdout), ""
            self._show()
        else:
            self._show_plan_error(result.error_message)

    # --- display

    def _show(self) -> None:
        focused, colours = self.focused, theme_colours(self.app)
        if isinstance(focused, FieldInput):
            self.query_one("#field-help", Static).update(Text(focused.field.help, style=colours["dim"]))
        self.query_one("#preview-text", Static).update(Text("\n").join(self._preview_lines()))
        command = Text.assemble(("$ ", colours["accent"]), printable(command_line(self.draft.arguments)))
        self.query_one("#command", Static).update(command)

    def on_descendant_focus(self) -> None:
        """Show the help of the focused field."""
        self._show()

    def _preview_lines(self) -> Iterator[Text]:
        colours = theme_colours(self.app)
        if self._starting:
            yield Text("Checking the model and the data …", style="bold")
            yield Text("A missing model is downloaded; the built-in one is 93 MB.", style=colours["dim"])
            return
        if self._preview is not None and self._preview.error:
            yield Text(printable(self._preview.error, keep_newlines=True), style=colours["error"])
            return
        yield Text("Plan", style="bold")
        yield from self._plan_lines()
        yield Text()
        yield Text("Training data", style="bold")
        if self._preview is None:
            yield Text("reading …", style=colours["dim"])
            return
        for place, prompt, answer in self._preview.rows[:6]:
            yield Text.assemble((f"{printable(place)}  ", colours["dim"]), printable(prompt))
            yield Text.assemble(("→ ", colours["accent"]), printable(answer)) if answer else Text()

    def _plan_lines(self) -> Iterator[Text]:
        from tspin_mlx.recipe.phase import outline_from_row
        from tspin_mlx.view.estimate import estimate

        colours = theme_colours(self.app)
        if self._plan is None:
            text = printable(self._plan_error, keep_newlines=True) or "planning …"
            yield Text(text, style=colours["error" if self._plan_error else "dim"])
            return
        plan, speed = self._plan, self._speed[0] if self._speed else None
        cost = estimate(outline_from_row(plan), self._preview.characters if self._preview else None, speed)
        counts = plan["counts"]
        rows = [
            ("examples", f"{counts['train']} training, {counts['validation']} validation, {counts['test']} test"),
            ("steps", f"{cost.steps:,} optimiser steps"),
            ("tokens", f"about {cost.train_tokens:,} trained, {cost.answers:,} answers of up to "
                       f"{plan['recipe']['generation']['max_tokens']}"),
            *self._resources(plan, cost.seconds),
        ]  # fmt: skip
        for name, value in rows:
            yield Text.assemble((f"{name:<10}", colours["dim"]), value)

    def _resources(self, plan: dict[str, Any], seconds: float | None) -> Iterator[tuple[str, str]]:
        """Yield time, memory and disk space, estimated from an earlier run with the model."""
        from tspin_mlx.view.estimate import disk_bytes

        if self._speed is None or seconds is None:
            yield "time", "unknown until the first steps: no earlier run used this model"
            return
        speed, adapter = self._speed
        yield "time", f"about {duration(seconds)}, judging by the run {printable(speed.run)}"
        if speed.peak_bytes is not None:
            yield "memory", f"about {format_memory(speed.peak_bytes, None)}, as that run used"
        if adapter:
            needed = disk_bytes(plan["recipe"]["training"]["iterations"], adapter)
            yield "disk", f"up to {needed / 1e6:.0f} MB"

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable the file picker for fields that take a file."""
        return action != "pick" or (isinstance(self.focused, FieldInput) and self.focused.field.is_file)

    def action_pick(self) -> None:
        """Pick a file for the focused field."""
        from .picker import FilePicker

        focused = self.focused
        if isinstance(focused, FieldInput) and focused.field.is_file:

            def fill(path: Path | None) -> None:
                if path is not None:
                    focused.value = str(path)

            self.app.push_screen(FilePicker(Path.cwd(), _SUFFIXES[focused.field.id]), fill)

    def action_start(self) -> None:
        """Check everything, and start the run in the background."""
        if not self._starting:
            self._starting = True
            self._show()
            self.run_worker(self._start(), exclusive=True, group="start")

    async def _start(self) -> None:
        result = await run_command([*self.draft.arguments, "--detach", "--json"])
        self._starting = False
        if result.exit_code != 0:
            self._show_plan_error(result.error_message)
            return
        answer = json.loads(result.stdout)
        if not answer["started"]:
            self._show_plan_error(f"{answer['run']} already exists and is finished.\n→ Give the new run another name.")
            return
        self.app.close_screen(self)
        self.app.open_run(Path(answer["run"]))

    def _show_plan_error(self, message: str) -> None:
        self._plan, self._plan_error = None, message
        self._show()
