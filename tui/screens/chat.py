"""Chat screen: the base model and the trained model answer the same messages, side by side."""

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

from ..keys import binding
from ..state.chat_process import ChatProcess
from ..theme import theme_colours
from ..widgets.key_line import KeyLine
from ..widgets.paging import PAGE_BINDINGS, scroll_pages
from .app_screen import AppScreen

_POLICIES = {"base": "before", "best": "after"}
_REDRAW_S = 0.1
_LOADING = "loading the models …"

Turn = dict[str, str]  # role and content


class ChatScreen(AppScreen):
    """Two columns of messages above an input.

    Args:
        run: its best policy answers on the right.
    """

    HELP = (
        "Both models get the same messages, each with its own earlier answers. They run in a separate process, which "
        "ends when you leave this screen."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        binding("again", "again", "new conversation", tooltip="Clear both conversations"),
        *PAGE_BINDINGS,
        binding("back", "dismiss", "back"),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self._process = ChatProcess(run.path.resolve())
        self._system: str | None = None
        self._multi_turn = True
        self._conversations: dict[str, list[Turn]] = {}  # by policy
        self._waiting: set[str] = set()  # policies that are answering
        self._errors: dict[str, str] = {}  # by policy: why the last message was not answered
        self._ready = False  # the process has loaded its models
        self._state = _LOADING
        self._stale = False

    def compose(self) -> ComposeResult:
        """Yield the columns, the state and the input."""
        yield Static(Text(f"Chat with {printable(self.run.name)}", style="bold"), classes="line", id="form-title")
        with Container(id="chat-columns"):
            for policy, name in _POLICIES.items():
                with Vertical():
                    yield Static(Text(name, style="bold"), classes="line")
                    with VerticalScroll(id=f"chat-{policy}", can_focus=False):
                        yield Static(id=f"transcript-{policy}")
        yield Static(id="chat-state", classes="line")
        yield Input(placeholder="type a message", id="chat-input", compact=True)
        yield KeyLine()

    def on_mount(self) -> None:
        """Start the chat process, and redraw at intervals."""
        self._reset()
        message_input = self.query_one(Input)
        message_input.cursor_blink = False
        message_input.focus()
        self._follow_end()
        self.set_interval(_REDRAW_S, self._redraw)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._mark_stale())
        self._start()
        if is_held(self.run.path):
            self.app.show_message("training continues and shares the memory with two more models", warning=True)

    def on_unmount(self) -> None:
        """Terminate the chat process."""
        self._process.close()

    def _start(self) -> None:
        self._state, self._stale = _LOADING, True
        self.run_worker(self._read_messages(), exclusive=True)

    async def _read_messages(self) -> None:
        async for message in self._process.messages():
            self._handle(message)

    def _handle(self, message: dict[str, Any]) -> None:
        policy = message.get("policy")
        if "error" in message:
            self._handle_error(message)
        elif message.get("ready"):
            self._state, self._ready = "", True
            self._system, self._multi_turn = message["system"], message["multi_turn"]
            self._reset()
        elif policy in self._waiting and "text" in message:
            self._conversations[policy][-1]["content"] += str(message["text"])
        elif policy in self._waiting and message.get("done"):
            self._stop_waiting(policy)
        self._mark_stale()

    def _handle_error(self, message: dict[str, Any]) -> None:
        """Show an error, and drop the message that was not answered: sent again, it would fail again."""
        policy, parts = message.get("policy"), (message["error"], message.get("hint"))
        error = printable("\n→ ".join(str(part) for part in parts if part), keep_newlines=True)
        for name in [policy] if policy in self._waiting else list(self._waiting):
            if not self._conversations[name][-1]["content"]:
                del self._conversations[name][-2:]
            self._stop_waiting(name)
        if policy in self._conversations:
            self._errors[policy] = error
        elif not message.get("ended"):
            self._state = error
        else:  # a process that failed to start has already sent the reason
            reason = error if self._ready or self._state == _LOADING else self._state
            self._ready, self._state = False, f"{reason}\n→ start a new conversation to try again"

    def _stop_waiting(self, policy: str) -> None:
        self._waiting.discard(policy)
        self._state = self._state if self._waiting else ""

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Send a message to both models, each with its own earlier answers."""
        if not event.value.strip() or self._waiting or not self._ready:
            return
        if not self._multi_turn:
            self._reset()
        event.input.value = ""
        self._follow_end()
        self._errors.clear()
        self._waiting = set(_POLICIES)
        self._state = "answering …"
        requests = {}
        for policy, conversation in self._conversations.items():
            conversation.append({"role": "user", "content": event.value})
            requests[policy] = list(conversation)
            conversation.append({"role": "assistant", "content": ""})
        first, *others = _POLICIES
        if all(requests[other] == requests[first] for other in others):
            self._process.ask(requests[first], list(_POLICIES))
        else:
            for policy, messages in requests.items():
                self._process.ask(messages, [policy])
        self._mark_stale()

    def _mark_stale(self) -> None:
        """Redraw at the next interval: pieces of text come faster than they need to be drawn."""
        self._stale = True

    def _redraw(self) -> None:
        if not self._stale:
            return
        self._stale = False
        for policy, conversation in self._conversations.items():
            self.query_one(f"#transcript-{policy}", Static).update(self._transcript(policy, conversation))
        self.query_one("#chat-state", Static).update(Text(self._state, style=theme_colours(self.app)["dim"]))

    def _transcript(self, policy: str, conversation: list[Turn]) -> Text:
        colours = theme_colours(self.app)
        parts = []
        for turn in conversation:
            text = printable(turn["content"], keep_newlines=True)
            if turn["role"] == "system":
                parts.append(Text(f"system prompt: {text}", style=colours["dim"]))
            elif turn["role"] == "user":
                parts.append(Text.assemble(("› ", colours["accent"]), (text, colours["dim"])))
            else:
                parts.append(Text(text or ("…" if policy in self._waiting else "(empty)")))
        if policy in self._errors:
            parts.append(Text(self._errors[policy], style=colours["error"]))
        return Text("\n\n").join(parts)

    def _follow_end(self) -> None:
        """Keep the end of both columns in view until the user scrolls back."""
        for column in self.query(VerticalScroll):
            column.anchor()

    def _reset(self) -> None:
        system_turns = [{"role": "system", "content": self._system}] if self._system else []
        self._conversations = {policy: list(system_turns) for policy in _POLICIES}
        self._errors.clear()
        self._mark_stale()

    def action_again(self) -> None:
        """Start a new conversation, and the chat process again if it has ended."""
        if self._waiting or self._state == _LOADING:
            return
        self._reset()
        if self._ready:
            self._state = ""
        else:
            self._start()

    def action_page(self, pages: int) -> None:
        """Scroll both columns by some pages."""
        scroll_pages(self, pages)
