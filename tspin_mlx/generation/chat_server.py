"""Chat server for another program: JSON lines on stdin and stdout.

It first lists its policies, then answers one request after another, policy by policy, until its input ends::

    ← {"ready": true, "policies": ["base", "initial", "iteration 0", "best"], "compare": ["base", "best"],
       "system": null, "multi_turn": true, "max_tokens": 256}
    → {"messages": [{"role": "user", "content": "hello"}], "policies": ["base", "best"], "temperature": 0,
       "max_tokens": 64, "seed": 0}
    ← {"policy": "base", "text": "Hel"}
    ← {"policy": "base", "done": true, "tokens": 3, "finish_reason": "stop"}

``text`` is the model's unfiltered output (ASCII-escaped): the reader must make it printable. ``finish_reason`` is
``stop``, ``length``, or ``interrupted`` after a SIGINT, which ends the whole request. Errors are ``{"error": ...,
"hint": ...}``, with ``policy`` if only that one failed; the next policy then answers. After an error the process waits
for the next request, unless it could not start.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..base.errors import TspinError
from ..recipe.policy_names import BASE, BEST
from ..runs.policies import find_policy, known_name
from ..runs.run import find_run
from .chat_session import ChatSession

Send = Callable[[dict[str, Any]], None]


class Turn(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class Request(BaseModel):
    """A request: the conversation so far, and the policies that should answer it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    messages: Annotated[list[Turn], Field(min_length=1)]
    policies: Annotated[list[str], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class Interruption:
    """A flag that SIGINT sets: end the current answer."""

    def __init__(self) -> None:
        self.wanted = False
        signal.signal(signal.SIGINT, self._note)

    def _note(self, *_: object) -> None:
        self.wanted = True


def serve(session: ChatSession, lines: Iterable[str], send: Send, interruption: Interruption) -> None:
    """Answer requests until the input ends."""
    for line in lines:
        interruption.wanted = False
        try:
            _answer(session, Request.model_validate_json(line), send, interruption)
        except ValidationError as error:
            send({"error": _message(error), "hint": "see the documentation of tspin_mlx.generation.chat_server"})
        except TspinError as error:
            send({"error": error.message, "hint": error.hint})


def _answer(session: ChatSession, request: Request, send: Send, interruption: Interruption) -> None:
    messages = [turn.model_dump() for turn in request.messages]
    for name in request.policies:
        find_policy(session.run, name)  # raises before any policy answers
    for name in request.policies:
        tokens, reason = 0, None
        try:
            for piece in session.answer(
                messages, name, temperature=request.temperature, max_tokens=request.max_tokens, seed=request.seed
            ):
                tokens, reason = piece.tokens, piece.finish_reason
                if piece.text:
                    send({"policy": name, "text": piece.text})
                if interruption.wanted:
                    break
            send({"policy": name, "done": True, "tokens": tokens, "finish_reason": reason or "interrupted"})
        except TspinError as error:
            send({"policy": name, "error": error.message, "hint": error.hint})
        if interruption.wanted:
            return


def _message(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"bad request: {place + ': ' if place else ''}{first['msg']}"


def main() -> None:
    """``python -m tspin_mlx.generation.chat_server RUN [--folder F] [--iteration N] [--trust-remote-code]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--iteration", default=BEST, help="the policy to compare with the base model")
    parser.add_argument("--trust-remote-code", action="store_true")
    arguments = parser.parse_args()
    out, sys.stdout = sys.stdout, sys.stderr  # output of libraries must not mix with answers

    def send(row: dict[str, Any]) -> None:
        out.write(json.dumps(row) + "\n")
        out.flush()

    interruption = Interruption()
    try:
        run = find_run(arguments.run, arguments.folder)
        chosen = known_name(run, arguments.iteration)
        session = ChatSession(run, trusted=arguments.trust_remote_code)
    except TspinError as error:
        send({"error": error.message, "hint": error.hint})
        sys.exit(error.exit_code)
    about = {"system": session.system, "multi_turn": session.multi_turn, "max_tokens": session.max_tokens}
    send({"ready": True, "policies": session.names, "compare": [BASE, chosen], **about})
    serve(session, sys.stdin, send, interruption)


if __name__ == "__main__":
    main()
