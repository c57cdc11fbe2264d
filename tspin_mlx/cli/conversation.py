"""Conversations of ``chat``: the turns of one or more policies, and the slash commands that a person types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..base import filesystem
from ..base.errors import TspinError
from ..base.text import suggest
from ..generation.chat_session import ChatSession, Message
from ..generation.stream import Piece
from .console import complain, say

_COMMANDS = ("/reset", "/system", "/save", "/help", "/quit")
_HELP = """/reset        begin a new conversation
/system TEXT  set the system prompt, and begin anew; without TEXT, none
/save FILE    save the conversation as JSON lines of chat messages, one for each policy
/help         this
/quit         end, as does Ctrl-D; Ctrl-C ends an answer only
A prompt that begins with a slash needs a space before it."""


@dataclass
class Conversation:
    """A conversation with one or more policies, each of which hears its own answers.

    Attributes:
        names: of the policies.
        system: the system prompt, if any.
        alone: forget each prompt once it is answered.
        temperature: 0 is greedy.
        max_tokens: longest answer; None is the recipe's.
        seed: of samples.
        turns: the messages so far by policy, without the system prompt.
    """

    session: ChatSession
    names: list[str]
    system: str | None
    alone: bool
    temperature: float
    max_tokens: int | None
    seed: int
    turns: dict[str, list[Message]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.turns = {name: [] for name in self.names}

    def messages(self, name: str) -> list[Message]:
        """The messages of a policy, with the system prompt."""
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return opening + self.turns[name]

    def ask(self, prompt: str) -> Iterator[tuple[str, Piece]]:
        """Stream the answers of all policies, one after the other. A prompt that is interrupted is not kept."""
        if self.alone:
            self.reset()
        asked = {"role": "user", "content": prompt}
        answers = dict.fromkeys(self.names, "")
        for name in self.names:
            pieces = self.session.answer(
                [*self.messages(name), asked],
                name,
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                seed=self.seed,
            )
            for piece in pieces:
                answers[name] += piece.text
                yield name, piece
        for name, answer in answers.items():
            self.turns[name] += [asked, {"role": "assistant", "content": answer}]


def obey(conversation: Conversation, line: str) -> bool:
    """Run a slash command; return whether it ends the chat."""
    word, _, rest = line.rstrip().partition(" ")
    match word:
        case "/quit":
            return True
        case "/help":
            say(_HELP)
        case "/save":
            _save(conversation, rest.strip())
        case "/reset" | "/system":
            if word == "/system":
                conversation.system = rest.strip() or None
            conversation.reset()
            say("(a new conversation)")
        case _:
            say(f"no such command: {word}; {suggest(word, _COMMANDS, '/help lists them')}")
    return False


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
        filesystem.write_text(path, filesystem.to_jsonl(rows))
    except TspinError as error:
        complain(error)
    else:
        say(f"saved to {path}")
