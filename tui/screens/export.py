"""Export screen: a form for the commands ``fuse``, ``export`` and ``push``, and their output."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import RichLog, Static

from tspin_mlx.base.text import printable
from tspin_mlx.jobs.control import reference
from tspin_mlx.runs.run import Run

from ..keys import binding
from ..state.processes import command_line, stream_command
from ..theme import theme_colours
from ..widgets.form import Choice, Field, FieldInput, FormRow
from ..widgets.key_line import KeyLine
from .app_screen import AppScreen

_COMMAND = Field(
    "what", "command", "export: the adapter for mlx-lm or PEFT, a GGUF model, or the triplets. fuse: one model with "
    "the adapter merged in. push: upload to the Hugging Face Hub. ← and → choose.",
)  # fmt: skip
_INPUTS = (
    Field("iteration", "iteration", "Export its adapter (empty: the best one) or its triplets (empty: all)."),
    Field("out", "name", "Name of the folder under exports/ in the run; empty for a default."),
    Field("repo", "repository", "On the Hub, such as me/my-model; created if it does not exist."),
)
_CHOICES = (
    (Field("format", "format", "mlx and peft are adapters, both is a folder for either, gguf is a whole model; "
           "triplets are preference data with TRL's columns."),
     ("mlx", "peft", "both", "gguf", "triplets")),
    (Field("visibility", "visibility", "Anyone can download a public model."), ("private", "public")),
    (Field("fused", "upload", "The adapter is small but needs its base model; the fused model needs nothing else."),
     ("adapter", "fused model")),
)  # fmt: skip
#: The fields of each command.
_FIELDS = {
    "export": ("iteration", "format", "out"),
    "fuse": ("iteration", "out"),
    "push": ("repo", "visibility", "fused"),
}


class ExportScreen(AppScreen):
    """The form, and the output of the command below it.

    Args:
        run: the run to export.
    """

    HELP = "The form runs this command, which you can also type in a terminal. Only push uploads anything."
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("start", "start", "run it", tooltip="Run the command shown", priority=True),
        binding("back", "dismiss", "back"),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.is_busy = False  # a command is running
        self._confirmed: list[str] | None = None  # an upload whose files were shown

    def compose(self) -> ComposeResult:
        """Yield the form, the command and its output."""
        yield Static(
            Text.assemble(("Export ", "bold"), (printable(self.run.name), "bold")), classes="line", id="form-title"
        )
        with Vertical(id="export-form"):
            yield FormRow(Choice(_COMMAND, tuple(_FIELDS)))
            controls: dict[str, FieldInput | Choice] = {field.id: FieldInput(field) for field in _INPUTS}
            controls |= {field.id: Choice(field, options) for field, options in _CHOICES}
            for name in dict.fromkeys(name for names in _FIELDS.values() for name in names):
                yield FormRow(controls[name])
            yield Static(id="field-help")
        yield Static(id="command")
        yield RichLog(id="export-log", wrap=True, markup=False, highlight=False, max_lines=2000)
        yield KeyLine()

    def on_mount(self) -> None:
        """Focus the choice of the command."""
        self.query_one("#what", Choice).focus()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._update())
        self._update()

    @property
    def command(self) -> str:
        """The chosen command."""
        return self.query_one("#what", Choice).value

    @property
    def arguments(self) -> list[str]:
        """The arguments of ``tspin-mlx`` that the form stands for."""
        typed = {field.id: self.query_one(f"#{field.id}", FieldInput).value.strip() for field in _INPUTS}
        chosen = {field.id: self.query_one(f"#{field.id}", Choice).value for field, _ in _CHOICES}
        arguments = [self.command, reference(self.run)]
        if self.command == "push":
            arguments.append(typed["repo"] or "REPOSITORY")
            arguments += ["--public"] if chosen["visibility"] == "public" else []
            return arguments + (["--fused"] if chosen["fused"] != "adapter" else [])
        arguments += ["--format", chosen["format"]] if self.command == "export" else []
        arguments += ["--iteration", typed["iteration"]] if typed["iteration"] else []
        return arguments + (["--out", typed["out"]] if typed["out"] else [])

    def on_input_changed(self) -> None:
        """Show the changed command; an upload has to be confirmed again."""
        self._confirmed = None
        self._update()

    def on_choice_changed(self) -> None:
        """Show the changed command; an upload has to be confirmed again."""
        self._confirmed = None
        self._update()

    def on_descendant_focus(self) -> None:
        """Show the help of the focused field."""
        self._update()

    def _update(self) -> None:
        colours = theme_colours(self.app)
        for row in self.query(FormRow):
            control = row.query_one("FieldInput, Choice")
            row.display = control.id == "what" or control.id in _FIELDS[self.command]
        all_iterations = self.command == "export" and self.query_one("#format", Choice).value == "triplets"
        self.query_one("#iteration", FieldInput).placeholder = "all" if all_iterations else "best"
        if isinstance(self.focused, FieldInput | Choice):
            self.query_one("#field-help", Static).update(Text(self.focused.help_text, style=colours["dim"]))
        command = Text.assemble(("$ ", colours["accent"]), printable(command_line(self.arguments)))
        self.query_one("#command", Static).update(command)

    def action_start(self) -> None:
        """Run the command; for an upload, first show which files it would send."""
        if self.is_busy:
            return
        arguments = self.arguments
        if self.command != "push":
            self.run_worker(self._run(arguments), exclusive=True)
        elif not self.query_one("#repo", FieldInput).value.strip():
            self.app.show_message("name the repository first", warning=True)
        elif self._confirmed != arguments:
            self.run_worker(self._ask_to_confirm(arguments), exclusive=True)
        else:
            self._confirmed = None
            self.run_worker(self._run([*arguments, "--yes"]), exclusive=True)

    async def _ask_to_confirm(self, arguments: list[str]) -> None:
        """Show the files that an upload would send; the same key then starts it."""
        if await self._run([*arguments, "--dry-run"]) and self.arguments == arguments:
            self._confirmed = arguments
            self._log("Press the same key again to upload these files.", "warning")

    async def _run(self, arguments: list[str]) -> bool:
        """Run a command and log its output; return whether it succeeded."""
        self.is_busy = True
        self._log(f"$ {command_line(arguments)}", "dim")
        try:
            exit_code = await stream_command(arguments, self._log)
            if "--dry-run" not in arguments or exit_code:
                succeeded = exit_code == 0
                text = "done" if succeeded else f"failed with exit code {exit_code}"
                self._log(text, "success" if succeeded else "error")
        finally:
            self.is_busy = False
        return exit_code == 0

    def _log(self, text: str, colour: str = "") -> None:
        style = theme_colours(self.app)[colour] if colour else ""
        for log in self.query(RichLog):  # none is left if the app closes while a command ends
            log.write(Text(printable(text), style=style), width=log.scrollable_content_region.width or 80)
