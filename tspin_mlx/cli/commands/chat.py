"""``chat``: talk to one policy of a run, or to two side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from typer import Option

from ...base.errors import UsageError
from ...base.text import shorten
from ...recipe.policy_names import BASE, wanted_policy
from ..console import complain, say
from ..options import Folder, Iteration, Policy, RunName, TrustRemoteCode, chosen_policy


def chat(
    name: RunName,
    iteration: Iteration = None,
    policy: Policy = None,
    compare: Annotated[bool, Option("--compare", help="Show the base model's answers as well.")] = False,
    system: Annotated[str | None, Option(metavar="TEXT", help="System prompt; by default the training's.")] = None,
    temperature: Annotated[float, Option(min=0, help="0 takes the likeliest tokens.")] = 0.0,
    max_tokens: Annotated[int | None, Option(min=1, help="Longest answer; by default that of the recipe.")] = None,
    seed: Annotated[int, Option(min=0, help="The same one gives the same answers.")] = 0,
    single: Annotated[bool, Option("--single", help="Answer every prompt alone, without those before.")] = False,
    folder: Folder = Path("runs"),
    as_json: Annotated[bool, Option("--json", help="Print one JSON object per answer.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Talk to the model as it was trained, or before and after side by side.

    Prompts are rendered as in training. From a pipe, every line is a prompt of its own.

    Example: tspin-mlx chat quickstart --compare

    Example: tspin-mlx chat quickstart --json < prompts.txt
    """
    from ...generation.chat_session import ChatSession
    from ...runs.policies import find_policy, known_name
    from ...runs.run import find_run
    from ..answers import show_as_json, shown_answers
    from ..conversation import Conversation, obey

    wanted = chosen_policy(iteration, policy)
    run = find_run(name, folder)
    names = [*([BASE] if compare else []), known_name(run, wanted)]
    labels = {name: wanted_policy(name, find_policy(run, name)) for name in names}
    interactive = sys.stdin.isatty()
    session = ChatSession(run, trusted=trust_remote_code)
    system = session.system if system is None else system
    alone = single or not interactive or not session.multi_turn
    conversation = Conversation(session, names, system, alone, temperature, max_tokens, seed)
    if interactive and not as_json:
        say(f"{' and '.join(labels.values())} of {run.name}")
        if system:
            say(f"system prompt: {shorten(system, 90)}")
        if not session.multi_turn and not single:
            say("the recipe's template takes one prompt at a time: each is answered alone")
        say("/help lists commands; Ctrl-C ends an answer, Ctrl-D the chat\n")
    show = show_as_json if as_json else shown_answers(labels)
    for line in _typed() if interactive else (row.decode("utf-8", "replace") for row in sys.stdin.buffer):
        if interactive and line.startswith("/"):
            if obey(conversation, line):
                return
        elif line.strip():
            try:
                show(line.strip(), conversation.ask(line.strip()))
            except (KeyboardInterrupt, UsageError) as error:
                if not interactive:
                    raise
                if isinstance(error, UsageError):
                    complain(error)
                else:
                    say("(ended; the prompt is not kept)")


def _typed() -> Iterator[str]:
    """Lines from the keyboard, with editing and history."""
    import readline  # noqa: F401  importing it is enough

    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            say("")
        except EOFError:
            say("")
            return
