"""``chat``: talk to one policy of a run, or to two side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..base import storage
from ..base.errors import TspinError, UsageError
from ..base.text import shorten, suggest
from ..generation.chat_session import ChatSession, Message
from ..generation.stream import Piece
from ..recipe.policy_names import BASE, wanted_policy
from ..runs.policies import find_policy, known_name
from ..runs.run import find_run
from .answers import Show, shown_answers
from .console import complain, say

_HELP = """/reset        begin a new conversation
/system TEXT  set the system prompt, and begin anew; without TEXT, none
/save FILE    save the conversation as JSON lines of chat messages, one for each policy
/help         this
/quit         end, as does Ctrl-D; Ctrl-C ends an answer only
A prompt that begins with a slash needs a space before it."""


@dataclass(frozen=True)
class Settings:
    """How answers are made.

    Attributes:
        temperature: 0 is greedy.
        max_tokens: longest answer; None is the recipe's.
        seed: of samples.
    """

    temperature: float
    max_tokens: int | None
    seed: int


@dataclass
class Conversation:
    """A conversation with one or more policies, each of which has heard its own answers.

    Attributes:
        alone: forget each prompt once it is answered.
    """

    session: ChatSession
    names: list[str]
    settings: Settings
    system: str | None
    alone: bool
    turns: dict[str, list[Message]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.turns = {name: [] for name in self.names}

    def messages(self, name: str) -> list[Message]:
        """What a policy has heard and said."""
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return opening + self.turns[name]

    def ask(self, prompt: str) -> Iterator[tuple[str, Piece]]:
        """All policies' answers, one after the other. What is broken off counts as not asked."""
        if self.alone:
            self.reset()
        asked = {"role": "user", "content": prompt}
        answers = dict.fromkeys(self.names, "")
        for name in self.names:
            pieces = self.session.answer(
                [*self.messages(name), asked],
                name,
                temperature=self.settings.temperature,
                max_tokens=self.settings.max_tokens,
                seed=self.settings.seed,
            )
            for piece in pieces:
                answers[name] += piece.text
                yield name, piece
        for name, answer in answers.items():
            self.turns[name] += [asked, {"role": "assistant", "content": answer}]


def chat(
    name: str,
    folder: Path,
    *,
    policy: str,
    compare: bool,
    system: str | None,
    settings: Settings,
    single: bool,
    as_json: bool,
    trusted: bool,
) -> None:
    """``chat``."""
    run = find_run(name, folder)
    names = [BASE, known_name(run, policy)] if compare else [known_name(run, policy)]
    labels = {name: wanted_policy(name, find_policy(run, name)) for name in names}
    interactive = sys.stdin.isatty()
    session = ChatSession(run, trusted=trusted)
    if system is None:
        system = session.system
    alone = single or not interactive or not session.multi_turn
    conversation = Conversation(session, names, settings, system, alone)
    if interactive and not as_json:
        _introduce(conversation, labels, single)
    show = _as_json if as_json else shown_answers(labels)
    for line in _typed() if interactive else _piped():
        if interactive and line.startswith("/"):
            if _obey(conversation, line):
                return
        elif line.strip():
            _answer(conversation, line.strip(), show, interactive)


def _answer(conversation: Conversation, prompt: str, show: Show, interactive: bool) -> None:
    try:
        show(prompt, conversation.ask(prompt))
    except KeyboardInterrupt:
        if not interactive:
            raise
        say("(ended; it counts as not asked)")
    except UsageError as error:
        if not interactive:
            raise
        complain(error)


def _introduce(conversation: Conversation, labels: dict[str, str], single: bool) -> None:
    say(f"{' and '.join(labels.values())} of {conversation.session.run.name}")
    if conversation.system:
        say(f"system prompt: {shorten(conversation.system, 90)}")
    if not conversation.session.multi_turn and not single:
        say("the recipe's template takes one prompt at a time: each is answered alone")
    say("/help lists commands; Ctrl-C ends an answer, Ctrl-D the chat\n")


def _typed() -> Iterator[str]:
    """Lines from the keyboard, with editing and history."""
    import readline  # noqa: F401  it is enough that it is there

    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            say("")
        except EOFError:
            say("")
            return


def _piped() -> Iterator[str]:
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "replace")


def _as_json(prompt: str, pieces: Iterable[tuple[str, Piece]]) -> None:
    """One object per answer."""
    text = ""
    for name, piece in pieces:
        text += piece.text
        if piece.finish_reason is not None:
            row = {"prompt": prompt, "policy": name, "text": text, "tokens": piece.tokens,
                   "finish_reason": piece.finish_reason}  # fmt: skip
            print(json.dumps(row), flush=True)  # noqa: T201
            text = ""


def _obey(conversation: Conversation, line: str) -> bool:
    """Do what a command says; whether it was to end the chat."""
    word, _, rest = line.rstrip().partition(" ")
    if word == "/quit":
        return True
    if (command := _COMMANDS.get(word)) is not None:
        command(conversation, rest.strip())
        return False
    say(f"no such command: {word}; {suggest(word, [*_COMMANDS, '/quit'], '/help lists them')}")
    return False


def _reset(conversation: Conversation, _: str) -> None:
    conversation.reset()
    say("(a new conversation)")


def _system(conversation: Conversation, text: str) -> None:
    conversation.system = text or None
    _reset(conversation, "")


def _save(conversation: Conversation, file: str) -> None:
    if not any(conversation.turns.values()):
        say("nothing was said yet")
        return
    try:
        path = Path(file).expanduser()
        taken = path.exists()
    except (OSError, RuntimeError, ValueError):  # nobody's home; longer than a name can be; a NUL
        say(f"{file} cannot be the name of a file")
        return
    if not file or taken:
        say(f"{path} exists already; give another name" if file else "/save needs the name of a file")
        return
    rows = [{"policy": name, "messages": conversation.messages(name)} for name in conversation.names]
    try:
        storage.write_text(path, storage.to_jsonl(rows))
    except TspinError as error:
        complain(error)
    else:
        say(f"saved to {path}")


def _help(_: Conversation, __: str) -> None:
    say(_HELP)


_COMMANDS: dict[str, Callable[[Conversation, str], None]] = {
    "/reset": _reset,
    "/system": _system,
    "/save": _save,
    "/help": _help,
}
