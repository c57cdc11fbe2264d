"""Form rows: a label next to a text input or a choice of options."""

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

from ..keys import binding
from ..theme import theme_colours


@dataclass(frozen=True)
class Field:
    """A field of a form.

    Attributes:
        id: of its widget.
        label: shown next to it.
        help: shown while it has the focus.
        key: the recipe key that it overrides, if any.
        is_file: whether the file picker can fill it.
    """

    id: str
    label: str
    help: str
    key: str = ""
    is_file: bool = False


class FieldInput(Input):
    """The text input of a field; up and down move to its neighbours."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding("line-up", "app.focus_previous", "up", show=False),
        binding("line-down", "app.focus_next", "down", show=False),
    ]

    def __init__(self, field: Field, value: str = "", suggester: Suggester | None = None) -> None:
        super().__init__(value=value, id=field.id, suggester=suggester, compact=True)
        self.field = field
        self.cursor_blink = False

    @property
    def help_text(self) -> str:
        """The help on the help screen while this field has the focus."""
        return self.field.help


class Choice(Widget):
    """A choice of one of a few options; left and right change it."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; padding: 0 1; background: $surface; }
    Choice:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("earlier", "choose(-1)", "choose", show=False),
        binding("later", "choose(1)", "choose", show=False),
        binding("line-up", "app.focus_previous", "up", show=False),
        binding("line-down", "app.focus_next", "down", show=False),
    ]
    can_focus = True

    index: reactive[int] = reactive(0)

    class Changed(Message):
        """Sent when another option is chosen."""

    def __init__(self, field: Field, options: tuple[str, ...]) -> None:
        super().__init__(id=field.id)
        self.field, self.options = field, options

    @property
    def value(self) -> str:
        """The chosen option."""
        return self.options[self.index]

    @property
    def help_text(self) -> str:
        """The help on the help screen while this field has the focus."""
        return self.field.help

    def render(self) -> Text:
        """Return all options with the chosen one highlighted; the gaps shrink to fit the width."""
        colours = theme_colours(self.app)
        gap = (self.content_size.width - len("".join(self.options))) // len(self.options)
        parts = [(option, f"bold {colours['accent']}" if i == self.index else colours["dim"])
                 for i, option in enumerate(self.options)]  # fmt: skip
        return Text(" " * max(1, min(3, gap)), no_wrap=True).join(Text(*part) for part in parts)

    def action_choose(self, by: int) -> None:
        """Choose the next option, or the previous one."""
        self.index = (self.index + by) % len(self.options)
        self.post_message(self.Changed())


class FormRow(Horizontal):
    """A label next to its input or choice."""

    DEFAULT_CSS = """
    FormRow { height: 1; }
    FormRow > Label { width: 16; color: $text-muted; }
    FormRow > Input, FormRow > Choice { width: 1fr; }
    """

    def __init__(self, control: FieldInput | Choice) -> None:
        super().__init__()
        self._control = control

    def compose(self) -> ComposeResult:
        """Yield the label and the control."""
        yield Label(self._control.field.label)
        yield self._control
