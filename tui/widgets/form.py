"""Rows of a form: a name, a line to type into, and what stands there if nothing is typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.reactive import reactive
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Label

from ..keys import bound
from ..theme import words_of


@dataclass(frozen=True)
class Field:
    """A row.

    Attributes:
        id: of the line.
        label: what it is called.
        help: what it means.
        key: of the recipe that it changes, if it does.
        is_file: whether a file can be picked for it.
    """

    id: str
    label: str
    help: str
    key: str = ""
    is_file: bool = False


class Line(Input):
    """A line to type into; up and down go to its neighbours."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bound("line-up", "app.focus_previous", "up", show=False),
        bound("line-down", "app.focus_next", "down", show=False),
    ]

    def __init__(self, field: Field, value: str = "", suggester: Suggester | None = None) -> None:
        super().__init__(value=value, id=field.id, suggester=suggester, compact=True)
        self.field = field
        self.cursor_blink = False

    @property
    def help_text(self) -> str:
        """What the help says while this line has the focus."""
        return self.field.help


class Choice(Widget):
    """One of a few words; left and right choose."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; padding: 0 1; background: $surface; }
    Choice:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("earlier", "choose(-1)", "choose", show=False),
        bound("later", "choose(1)", "choose", show=False),
        bound("line-up", "app.focus_previous", "up", show=False),
        bound("line-down", "app.focus_next", "down", show=False),
    ]
    can_focus = True

    chosen: reactive[int] = reactive(0)

    class Changed(Message):
        """Another word was chosen."""

    def __init__(self, field: Field, words: tuple[str, ...]) -> None:
        super().__init__(id=field.id)
        self.field, self.words = field, words

    @property
    def value(self) -> str:
        """The chosen word."""
        return self.words[self.chosen]

    @property
    def help_text(self) -> str:
        """What the help says while this line has the focus."""
        return self.field.help

    def render(self) -> Text:
        """All words, as far apart as they fit, the chosen one stands out."""
        colours = words_of(self.app)
        gap = (self.content_size.width - len("".join(self.words))) // len(self.words)
        parts = [(word, f"bold {colours['accent']}" if i == self.chosen else colours["dim"])
                 for i, word in enumerate(self.words)]  # fmt: skip
        return Text(" " * max(1, min(3, gap)), no_wrap=True).join(Text(*part) for part in parts)

    def action_choose(self, by: int) -> None:
        """Another word."""
        self.chosen = (self.chosen + by) % len(self.words)
        self.post_message(self.Changed())


class FormRow(Horizontal):
    """A label beside its line."""

    DEFAULT_CSS = """
    FormRow { height: 1; }
    FormRow > Label { width: 16; color: $text-muted; }
    FormRow > Input, FormRow > Choice { width: 1fr; }
    """

    def __init__(self, line: Line | Choice) -> None:
        super().__init__()
        self._line = line

    def compose(self) -> ComposeResult:
        """Label, line."""
        yield Label(self._line.field.label)
        yield self._line
