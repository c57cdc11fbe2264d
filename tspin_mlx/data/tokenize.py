"""Tokenise examples (chat messages, prompt and response, Alpaca) with the chat template, for generation and training.

Pure: the tokenizer is an argument. An invalid example raises :class:`BadExample` with the reason; the reader of the
file adds its name and line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import jinja2

from ..method.triplets import Prompt, Response
from ..recipe.schema import Columns, DataSection

#: The template of the T-SPIN paper (arXiv 2601.08198).
PAPER_TEMPLATE = "### Instruction: {prompt}\n\n### Response: "

#: The date in chat templates that print today's; Llama 3.2's template falls back to it as well.
_THE_DAY = date(2024, 7, 26)
_TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")

_ANCHOR = "\n"

_RESPONSE_COLUMNS = ("response", "completion")
_ROLES = ("system", "user", "assistant", "tool")


class BadExample(ValueError):
    """The reason why an example cannot be used."""


@dataclass(frozen=True)
class RawExample:
    """One example before it is tokenised.

    Attributes:
        messages: the turns before the answer, each ``{"role": ..., "content": ...}``; the last is not the
            assistant's.
        response: the expert's answer.
        answer: the reference of task metrics.
        id: the row's own id, if it has one.
    """

    messages: tuple[dict[str, str], ...]
    response: str
    answer: str
    id: str | None = None


def read_example(row: Any, data: DataSection) -> RawExample:
    """Read a row: chat ``messages``, ``prompt`` + ``response`` or ``completion``, or Alpaca's columns.

    Args:
        row: one decoded JSON object, CSV row or dataset row.
        data: the recipe's section: names of columns, which turn is the answer, system prompt.

    Raises:
        BadExample: unknown columns, or an empty or non-text field.
    """
    columns, system = data.columns, data.system
    if not isinstance(row, dict):
        raise BadExample(f"a row must be an object with named fields, not {type(row).__name__}")
    if columns.prompt is None and "messages" in row:
        messages, response = _from_messages(row["messages"], data.turn)
    elif columns.prompt is None and "instruction" in row and "output" in row:
        messages, response = _from_alpaca(row)
    else:
        messages, response = _from_columns(row, columns)
    own_system = row.get(columns.system or "system")
    if messages[0]["role"] != "system" and (own_system or system):
        messages = [{"role": "system", "content": _text(own_system or system, "system")}, *messages]
    answer = row.get(columns.answer or "answer")
    for column in (columns.system, columns.answer):
        if column is not None and column not in row:
            raise BadExample(f"has no column {column!r}, which data.columns names")
    identity = row.get("id")
    return RawExample(
        messages=tuple(messages),
        response=response,
        answer=response if answer is None else _text(answer, "answer"),
        id=None if identity in (None, "") else _text(str(identity), "id"),
    )


def render(example: RawExample, identity: str, tokenizer: Any, data: DataSection, vocab_size: int) -> Prompt:
    """Tokenise an example once, for generation and for training.

    Args:
        tokenizer: mlx-lm's tokenizer wrapper.
        vocab_size: token ids must be below it.

    Raises:
        BadExample: too long, or the template does not fit the example or the model.
    """
    for end in tokenizer.eos_token_ids:
        if (text := tokenizer.decode([end])) and text in example.response:
            raise BadExample(f"the answer contains the end token {text!r}")
    before = prompt_text(example.messages, tokenizer, data.template)
    if data.template == "chat":
        after = _answered_text(example, before, tokenizer)
    else:
        after = before + example.response + tokenizer.eos_token
    special = _needs_special_tokens(data.template)
    prompt = _encode(tokenizer, before, special)
    response = _response_tokens(tokenizer, prompt, before, after, special)
    if len(prompt) + len(response) > data.max_tokens:
        raise BadExample(
            f"{len(prompt)} prompt + {len(response)} answer tokens do not fit into {data.max_tokens} "
            "(the smaller of data.max_tokens and the model's context length)"
        )
    if max(*prompt, *response) >= vocab_size:
        raise BadExample(f"the tokenizer's ids exceed the model's vocabulary ({vocab_size})")
    return Prompt(
        id=identity,
        tokens=tuple(prompt),
        text=example.messages[-1]["content"],
        annotated=Response(tokens=tuple(response), text=example.response),
        answer=example.answer,
        system=next((turn["content"] for turn in example.messages if turn["role"] == "system"), None),
    )


def render_prompt(messages: Sequence[dict[str, str]], tokenizer: Any, template: str) -> list[int]:
    """Tokenise a conversation up to where the model answers, exactly as training does.

    Args:
        messages: ``role`` and ``content`` of each turn; the last is the user's.
        template: ``data.template`` of the recipe.

    Raises:
        BadExample: the template does not fit the conversation or the model.
    """
    text = prompt_text(messages, tokenizer, template)
    return _encode(tokenizer, text, _needs_special_tokens(template))


def takes_conversations(template: str) -> bool:
    """Return whether prompts may have more than one user turn."""
    return template == "chat"


def prompt_text(messages: Sequence[dict[str, str]], tokenizer: Any, template: str) -> str:
    """Render a conversation as text, see :func:`render_prompt`."""
    if template == "chat":
        return _apply_chat_template(tokenizer, list(messages), answered=False)
    return _fill(PAPER_TEMPLATE if template == "paper" else template, messages)


def _needs_special_tokens(template: str) -> bool:
    return template != "chat"  # a chat template writes the begin token itself


def _from_messages(messages: Any, turn: str) -> tuple[list[dict[str, str]], str]:
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise BadExample("'messages' must be a list of {role, content}")
    turns = []
    for message in messages:
        if message.get("role") not in _ROLES:
            raise BadExample(f"unknown role {message.get('role')!r} in 'messages'")
        if message["role"] == "system" and message.get("content") == "":
            continue
        turns.append({"role": message["role"], "content": _text(message.get("content"), "content")})
    roles = [message["role"] for message in turns]
    answers = [i for i, role in enumerate(roles) if role == "assistant" and "user" in roles[:i]]
    if not answers:
        raise BadExample("'messages' has no assistant turn after a user turn")
    answer = answers[0 if turn == "first" else -1]
    if roles[answer - 1] == "assistant":
        raise BadExample("'messages' has two assistant turns in a row")
    return turns[:answer], turns[answer]["content"]


def _from_alpaca(row: dict[str, Any]) -> tuple[list[dict[str, str]], str]:
    prompt = _text(row["instruction"], "instruction")
    if row.get("input"):
        prompt = f"{prompt}\n\n{_text(row['input'], 'input')}"
    return [{"role": "user", "content": prompt}], _text(row["output"], "output")


def _from_columns(row: dict[str, Any], columns: Columns) -> tuple[list[dict[str, str]], str]:
    prompt = columns.prompt or "prompt"
    candidates = (columns.response,) if columns.response else _RESPONSE_COLUMNS
    response = next((name for name in candidates if name in row), None)
    if prompt not in row or response is None:
        raise BadExample(
            f"needs 'messages', '{prompt}' with {' or '.join(map(repr, candidates))}, or 'instruction' with 'output'; "
            f"has {', '.join(map(repr, row)) or 'nothing'} (data.columns.prompt and data.columns.response name others)"
        )
    return [{"role": "user", "content": _text(row[prompt], prompt)}], _text(row[response], response)


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise BadExample(f"{field!r} must be text, not {type(value).__name__}")
    if not value.strip():
        raise BadExample(f"{field!r} is empty")
    if "\0" in value:
        raise BadExample(f"{field!r} contains a NUL character")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise BadExample(f"{field!r} contains an unpaired surrogate")
    return value


def _answered_text(example: RawExample, before: str, tokenizer: Any) -> str:
    """Render the conversation with its answer by the chat template."""
    answered = [*example.messages, {"role": "assistant", "content": example.response}]
    after = _apply_chat_template(tokenizer, answered, answered=True)
    if not after.startswith(before):
        raise BadExample("the model's chat template changes the prompt when an answer follows")
    return after


def _apply_chat_template(tokenizer: Any, messages: list[dict[str, str]], *, answered: bool) -> str:
    if not getattr(tokenizer, "has_chat_template", False):
        raise BadExample("the model has no chat template; set data.template to 'paper' or to a text with {prompt}")
    options: dict[str, Any] = {"tokenize": False, "enable_thinking": False}
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, str) and "strftime_now" in template:
        options["chat_template"] = on_one_day(template)
    try:
        text: str = tokenizer.apply_chat_template(messages, add_generation_prompt=not answered, **options)
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise BadExample(f"the model's chat template rejects it: {error}") from None
    return text


def on_one_day(template: str) -> str:
    """Fix the date in a chat template that prints today's, so that the same examples give the same tokens tomorrow."""
    return _TODAY.sub(lambda match: repr(_THE_DAY.strftime(match[2])), template)


def _fill(template: str, messages: Sequence[dict[str, str]]) -> str:
    system = [turn["content"] for turn in messages if turn["role"] == "system"]
    turns = [turn["content"] for turn in messages if turn["role"] != "system"]
    if len(turns) != 1:
        raise BadExample("a template string supports only one user turn; use data.template: chat for conversations")
    if system and "{system}" not in template:
        raise BadExample("has a system prompt, but data.template has no {system}")
    values = {"{system}": system[0] if system else "", "{prompt}": turns[0]}
    return re.sub(r"\{system\}|\{prompt\}", lambda match: values[match[0]], template)


def _encode(tokenizer: Any, text: str, add_special_tokens: bool) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=add_special_tokens))


def _encoded_alone(tokenizer: Any, text: str) -> list[int]:
    """Tokenise a text as a continuation: at the beginning of a text, some tokenizers would add a space."""
    anchor, whole = _encode(tokenizer, _ANCHOR, False), _encode(tokenizer, _ANCHOR + text, False)
    return whole[len(anchor) :] if whole[: len(anchor)] == anchor else _encode(tokenizer, text, False)


def _response_tokens(tokenizer: Any, prompt: list[int], before: str, after: str, special: bool) -> list[int]:
    """Return the answer's token ids, up to and including the end token."""
    whole = _encode(tokenizer, after, special)
    # If the answer's first token would merge with the prompt's last, the answer is tokenised alone, since generation
    # starts from the prompt's own ids.
    fits = whole[: len(prompt)] == prompt
    response = whole[len(prompt) :] if fits else _encoded_alone(tokenizer, after[len(before) :])
    for position, token in enumerate(response):
        if token in tokenizer.eos_token_ids:
            return response[: position + 1]
    raise BadExample("the model's chat template does not end an answer with an end token")
