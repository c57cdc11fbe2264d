"""A form over ``fuse``, ``export`` and ``push``: it shows the command, runs it, and shows what it says."""

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

from ..keys import bound
from ..state.processes import lines_of, shown
from ..theme import words_of
from ..widgets.form import Choice, Field, FormRow, Line
from ..widgets.key_line import KeyLine
from .app_screen import AppScreen

_WHAT = Field(
    "what", "what", "export: the adapter for mlx-lm or PEFT, a GGUF model, or the triplets. fuse: one model with the "
    "adapter in it. push: upload to the Hugging Face Hub. ← and → choose.",
)  # fmt: skip
_LINES = (
    Field("iteration", "iteration", "Whose adapter, the best one if empty; or whose triplets, all if empty."),
    Field("out", "name", "Of the folder below exports/ of the run; chosen for you if empty."),
    Field("repo", "repository", "On the Hub, such as me/my-model. It is made if it does not exist."),
)
_CHOICES = (
    (Field("format", "format", "mlx and peft are adapters, both is a folder for either, gguf a whole model; triplets "
           "are preference data with TRL's columns."),
     ("mlx", "peft", "both", "gguf", "triplets")),
    (Field("visibility", "visible to", "What everybody sees can be downloaded by everybody."), ("you", "everybody")),
    (Field("fused", "upload", "The adapter is small and needs its base model; the fused model stands alone."),
     ("adapter", "fused model")),
)  # fmt: skip
_ROWS = {
    "export": ("iteration", "format", "out"),
    "fuse": ("iteration", "out"),
    "push": ("repo", "visibility", "fused"),
}


class ExportScreen(AppScreen):
    """The form and, below it, what the command has said.

    Args:
        run: whose adapter.
    """

    HELP = "The command is what the form does: it can be typed in a terminal as well. Nothing is uploaded but by push."
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("start", "start", "run it", tooltip="Run the command that is shown", priority=True),
        bound("back", "dismiss", "back"),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self._working = self._asked = False

    def compose(self) -> ComposeResult:
        """The form, the command, the output."""
        yield Static(
            Text.assemble(("Export ", "bold"), (printable(self.run.name), "bold")), classes="line", id="form-title"
        )
        with Vertical(id="export-form"):
            yield FormRow(Choice(_WHAT, tuple(_ROWS)))
            rows: dict[str, Line | Choice] = {field.id: Line(field) for field in _LINES}
            rows |= {field.id: Choice(field, words) for field, words in _CHOICES}
            for name in dict.fromkeys(name for names in _ROWS.values() for name in names):
                yield FormRow(rows[name])
            yield Static(id="field-help")
        yield Static(id="command")
        yield RichLog(id="export-log", wrap=True, markup=False, highlight=False, max_lines=2000)
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin with what to do."""
        self.query_one("#what", Choice).focus()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show())
        self._show()

    @property
    def what(self) -> str:
        """The chosen command."""
        return self.query_one("#what", Choice).value

    @property
    def arguments(self) -> list[str]:
        """The command that the form makes."""
        typed = {field.id: self.query_one(f"#{field.id}", Line).value.strip() for field in _LINES}
        chosen = {field.id: self.query_one(f"#{field.id}", Choice).value for field, _ in _CHOICES}
        made = [self.what, reference(self.run)]
        if self.what == "push":
            made.append(typed["repo"] or "REPOSITORY")
            made += ["--public"] if chosen["visibility"] == "everybody" else []
            return made + (["--fused"] if chosen["fused"] != "adapter" else [])
        made += ["--format", chosen["format"]] if self.what == "export" else []
        made += ["--iteration", typed["iteration"]] if typed["iteration"] else []
        return made + (["--out", typed["out"]] if typed["out"] else [])

    def on_input_changed(self) -> None:
        """Another command."""
        self._asked = False
        self._show()

    def on_choice_changed(self) -> None:
        """Another command."""
        self._asked = False
        self._show()

    def on_descendant_focus(self) -> None:
        """The help is about the line that has the focus."""
        self._show()

    def _show(self) -> None:
        colours = words_of(self.app)
        for row in self.query(FormRow):
            line = row.query_one("Line, Choice")
            row.display = line.id == "what" or line.id in _ROWS[self.what]
        whole = self.what == "export" and self.query_one("#format", Choice).value == "triplets"
        self.query_one("#iteration", Line).placeholder = "all" if whole else "best"
        if isinstance(self.focused, Line | Choice):
            self.query_one("#field-help", Static).update(Text(self.focused.help_text, style=colours["dim"]))
        command = Text.assemble(("$ ", colours["accent"]), printable(shown(self.arguments)))
        self.query_one("#command", Static).update(command)

    def action_start(self) -> None:
        """Run the command; of an upload, show first what it would send."""
        if self._working:
            return
        if self.what == "push" and not self.query_one("#repo", Line).value.strip():
            self.app.show_message("name the repository first", warning=True)
            return
        if self.what == "push" and not self._asked:
            self.run_worker(self._look(), exclusive=True)
            return
        self._asked = False
        self.run_worker(self._work([*self.arguments, *(["--yes"] if self.what == "push" else [])]), exclusive=True)

    async def _look(self) -> None:
        """What an upload would send, before it is asked about."""
        arguments = self.arguments
        if await self._work([*arguments, "--dry-run"]) and self.arguments == arguments:
            self._asked = True
            self._say("The same key again sends these files.", "warning")

    async def _work(self, arguments: list[str]) -> bool:
        """Run a command, and say whether it has done what it should."""
        self._working, code = True, -1
        self._say(f"$ {shown(arguments)}", "dim")
        try:
            async for line in lines_of(arguments):
                if isinstance(line, str):
                    self._say(line)
                else:
                    code = line
            if "--dry-run" not in arguments or code:
                self._say("done" if code == 0 else f"ended with exit code {code}", "error" if code else "success")
        finally:
            self._working = False
        return code == 0

    def _say(self, text: str, colour: str = "") -> None:
        style = words_of(self.app)[colour] if colour else ""
        for log in self.query(RichLog):  # there is none any more when the app closes while a command ends
            log.write(Text(printable(text), style=style), width=log.scrollable_content_region.width or 80)
