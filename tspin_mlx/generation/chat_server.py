"""A chat for another program: requests and answers as lines of JSON on stdin and stdout.

It says first what there is, then answers one request after another, policy by policy, until its input ends::

    ← {"ready": true, "policies": ["base", "initial", "iteration 0", "best"], "compare": ["base", "best"],
       "system": null, "multi_turn": true, "max_tokens": 256}
    → {"messages": [{"role": "user", "content": "hello"}], "policies": ["base", "best"], "temperature": 0,
       "max_tokens": 64, "seed": 0}
    ← {"policy": "base", "text": "Hel"}
    ← {"policy": "base", "done": true, "tokens": 3, "finish_reason": "stop"}

``text`` is what the model said, unfiltered (but ASCII on the wire): who shows it must make it printable.
``finish_reason`` is ``stop``, ``length``, or ``interrupted`` after a SIGINT, which ends all that was requested. What
cannot be done is answered by ``{"error": ..., "hint": ...}``, with the ``policy`` if only that one cannot; the next
policy is then asked. After it the process waits for the next request, unless it could not even start.
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
    """What is asked: the conversation so far, and who shall answer it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    messages: Annotated[list[Turn], Field(min_length=1)]
    policies: Annotated[list[str], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class Interruption:
    """Whether somebody asked to end the answer that is under way."""

    def __init__(self) -> None:
        self.wanted = False
        signal.signal(signal.SIGINT, self._note)

    def _note(self, *_: object) -> None:
        self.wanted = True


def serve(session: ChatSession, lines: Iterable[str], send: Send, interruption: Interruption) -> None:
    """Answer requests until there are no more."""
    for line in lines:
        interruption.wanted = False
        try:
            _answer(session, Request.model_validate_json(line), send, interruption)
        except ValidationError as error:
            send({"error": _complaint(error), "hint": "see the documentation of tspin_mlx.generation.chat_server"})
        except TspinError as error:
            send({"error": error.message, "hint": error.hint})


def _answer(session: ChatSession, request: Request, send: Send, interruption: Interruption) -> None:
    messages = [turn.model_dump() for turn in request.messages]
    for name in request.policies:
        find_policy(session.run, name)  # before anybody answers
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


def _complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"bad request: {place + ': ' if place else ''}{first['msg']}"


def main() -> None:
    """``python -m tspin_mlx.generation.chat_server RUN [--folder F] [--iteration N] [--trust-remote-code]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--iteration", default=BEST, help="what to compare the base model with")
    parser.add_argument("--trust-remote-code", action="store_true")
    arguments = parser.parse_args()
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer

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
