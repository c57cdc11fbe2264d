"""Before and after, side by side: the same words to the base model and to the trained one."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.widgets import Input, Static

from tspin_mlx.base.text import printable
from tspin_mlx.runs.lock import is_held
from tspin_mlx.runs.run import Run

from ..keys import bound
from ..state.chat_process import ChatProcess
from ..theme import words_of
from ..widgets.key_line import KeyLine
from ..widgets.paging import PAGE_KEYS, scroll_pages
from .app_screen import AppScreen

_POLICIES = {"base": "before", "best": "after"}
_REDRAW_S = 0.1
_LOADING = "loading the models …"


class ChatScreen(AppScreen):
    """Two columns and a line to type into.

    Args:
        run: whose best policy answers at the right.
    """

    HELP = (
        "Both models read the same words, each with its own answers before. The models live in a process of their own, "
        "which ends with this screen."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        bound("again", "again", "new conversation", tooltip="Forget what was said"),
        *PAGE_KEYS,
        bound("back", "dismiss", "back"),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self._process = ChatProcess(run.path.resolve())
        self._system: str | None = None
        self._multi_turn = True
        self._said: dict[str, list[dict[str, str]]] = {}
        self._waiting: set[str] = set()
        self._refused: dict[str, str] = {}  # what a policy did not answer, and why
        self._ready = False
        self._state = _LOADING
        self._stale = False

    def compose(self) -> ComposeResult:
        """Columns, a line of state, the line to type into."""
        yield Static(Text(f"Chat with {printable(self.run.name)}", style="bold"), classes="line", id="form-title")
        with Container(id="chat-columns"):
            for policy, name in _POLICIES.items():
                with Vertical():
                    yield Static(Text(name, style="bold"), classes="line")
                    with VerticalScroll(id=f"chat-{policy}", can_focus=False):
                        yield Static(id=f"said-{policy}")
        yield Static(id="chat-state", classes="line")
        yield Input(placeholder="say something", id="say", compact=True)
        yield KeyLine()

    def on_mount(self) -> None:
        """Start the process that holds the models."""
        self._forget()
        line = self.query_one(Input)
        line.cursor_blink = False
        line.focus()
        self._to_the_end()
        self.set_interval(_REDRAW_S, self._redraw)
        self.app.theme_changed_signal.subscribe(self, lambda _: setattr(self, "_stale", True))
        self._start()
        if is_held(self.run.path):
            self.app.show_message("training goes on: two more models share the memory with it", warning=True)

    def on_unmount(self) -> None:
        """No model stays behind."""
        self._process.close()

    def _start(self) -> None:
        self._state, self._stale = _LOADING, True
        self.run_worker(self._listen(), exclusive=True)

    async def _listen(self) -> None:
        async for message in self._process.messages():
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        policy = message.get("policy")
        if "error" in message:
            self._regret(message)
        elif message.get("ready"):
            self._state, self._ready = "", True
            self._system, self._multi_turn = message["system"], message["multi_turn"]
            self._forget()
        elif policy in self._waiting and "text" in message:
            self._said[policy][-1]["content"] += str(message["text"])
        elif policy in self._waiting and message.get("done"):
            self._settle(policy)
        self._stale = True

    def _regret(self, message: dict[str, Any]) -> None:
        """Of what was asked in vain nothing stays: the next request would be the same again."""
        policy, words = message.get("policy"), (message["error"], message.get("hint"))
        told = printable("\n→ ".join(str(part) for part in words if part), keep_newlines=True)
        for name in [policy] if policy in self._waiting else list(self._waiting):
            if not self._said[name][-1]["content"]:
                del self._said[name][-2:]
            self._settle(name)
        if policy in self._said:
            self._refused[policy] = told
        elif not message.get("ended"):
            self._state = told
        else:  # one that could not even start has said why
            why = told if self._ready or self._state == _LOADING else self._state
            self._ready, self._state = False, f"{why}\n→ a new conversation starts it again"

    def _settle(self, policy: str) -> None:
        self._waiting.discard(policy)
        self._state = self._state if self._waiting else ""

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask both; each is told its own answers so far."""
        if not event.value.strip() or self._waiting or not self._ready:
            return
        if not self._multi_turn:
            self._forget()
        event.input.value = ""
        self._to_the_end()
        self._refused.clear()
        self._waiting = set(_POLICIES)
        self._state = "answering …"
        asked = {}
        for policy, said in self._said.items():
            said.append({"role": "user", "content": event.value})
            asked[policy] = list(said)
            said.append({"role": "assistant", "content": ""})
        first, *others = _POLICIES
        if all(asked[other] == asked[first] for other in others):
            self._process.ask(asked[first], list(_POLICIES))
        else:
            for policy, messages in asked.items():
                self._process.ask(messages, [policy])
        self._stale = True

    def _redraw(self) -> None:
        if not self._stale:
            return
        self._stale = False
        for policy, said in self._said.items():
            self.query_one(f"#said-{policy}", Static).update(self._transcript(policy, said))
        self.query_one("#chat-state", Static).update(Text(self._state, style=words_of(self.app)["dim"]))

    def _transcript(self, policy: str, said: list[dict[str, str]]) -> Text:
        colours = words_of(self.app)
        parts = []
        for turn in said:
            text = printable(turn["content"], keep_newlines=True)
            if turn["role"] == "system":
                parts.append(Text(f"told first: {text}", style=colours["dim"]))
            elif turn["role"] == "user":
                parts.append(Text.assemble(("› ", colours["accent"]), (text, colours["dim"])))
            else:
                parts.append(Text(text or ("…" if policy in self._waiting else "(nothing)")))
        if policy in self._refused:
            parts.append(Text(self._refused[policy], style=colours["error"]))
        return Text("\n\n").join(parts)

    def _to_the_end(self) -> None:
        """Show what comes, until somebody scrolls back."""
        for column in self.query(VerticalScroll):
            column.anchor()

    def _forget(self) -> None:
        start = [{"role": "system", "content": self._system}] if self._system else []
        self._said = {policy: list(start) for policy in _POLICIES}
        self._refused.clear()
        self._stale = True

    def action_again(self) -> None:
        """Begin anew; with another process, if this one has ended."""
        if self._waiting or self._state == _LOADING:
            return
        self._forget()
        if self._ready:
            self._state = ""
        else:
            self._start()

    def action_page(self, by: int) -> None:
        """Scroll both columns."""
        scroll_pages(self, by)
