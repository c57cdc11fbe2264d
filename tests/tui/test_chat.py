"""The chat screen, with a fake chat process that needs no model."""

import json
import os
import sys

import pytest

from tests.tui.driver import drive, text_of, until
from tspin_mlx.tui.screens.chat import ChatScreen
from tspin_mlx.tui.screens.run import RunScreen
from tspin_mlx.tui.state import chat_process

#: Stands in for the chat server; logs its process id and each request, and answers without a model.
CHAT = r"""
import json, os, sys
def say(**message):
    print(json.dumps(message), flush=True)
print("a library prints this")
with open({log!r}, "a") as log:
    print(os.getpid(), file=log)
say(ready=True, policies=["base", "best"], system="Reply.", multi_turn={multi_turn})
for line in sys.stdin:
    asked = json.loads(line)
    with open({log!r}, "a") as log:
        log.write(line)
    if asked["messages"][-1]["content"] == "die":
        sys.exit("out of memory")
    if asked["messages"][-1]["content"] == "long":
        say(error="too long")
        continue
    for policy in asked["policies"]:
        if asked["messages"][-1]["content"] == "half" and policy == "best":
            say(policy=policy, error="too long for it", hint="ask less")
            continue
        for piece in (f"{{policy}} says ", "\x1b[2J[/foo] ", str(len(asked["messages"]))):
            say(policy=policy, text=piece)
        say(policy=policy, done=True, tokens=3)
"""


@pytest.fixture
def chat(make_run, tmp_path):
    """Return a finished run, and a function that returns the requests to its chat process."""
    log = tmp_path / "chat.jsonl"

    def requests():
        return [row for line in log.read_text().splitlines() if isinstance(row := json.loads(line), dict)]

    return make_run("done"), requests


@pytest.fixture(autouse=True)
def chat_without_a_model(tmp_path, monkeypatch):
    """Replace the chat process with a fake; return a function that makes it single-turn."""

    def write(*, multi_turn):
        script.write_text(CHAT.format(log=str(tmp_path / "chat.jsonl"), multi_turn=multi_turn))

    script = tmp_path / "chat.py"
    write(multi_turn=True)
    monkeypatch.setattr(chat_process, "COMMAND", [sys.executable, str(script)])
    return write


async def open_chat(app, pilot):
    """Open the chat, and wait until the models are loaded."""
    await pilot.press("c")
    await until(pilot, lambda: "loading" not in text_of(app))


@pytest.mark.parametrize("size", [(120, 36), (50, 16)])
def test_both_models_answer_side_by_side_and_remember_their_own_answers(chat, size):
    run, asked = chat

    async def scenario(app, pilot):
        await pilot.press("c")
        assert isinstance(app.screen, ChatScreen)
        await until(pilot, lambda: "loading" not in text_of(app))
        await pilot.press(*"hello", "enter")
        await until(pilot, lambda: "base says [2J[/foo] 2" in text_of(app) and "best says [2J[/foo] 2" in text_of(app))
        await pilot.press(*"more", "enter")
        await until(pilot, lambda: "base says [2J[/foo] 4" in text_of(app) and "best says [2J[/foo] 4" in text_of(app))
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "says" not in text_of(app))
        await pilot.press("escape")
        assert isinstance(app.screen, RunScreen)

    drive(scenario, run=run, size=size)
    first, *second = asked()
    assert first["policies"] == ["base", "best"]
    assert first["messages"] == [{"role": "system", "content": "Reply."}, {"role": "user", "content": "hello"}]
    assert [request["policies"] for request in second] == [["base"], ["best"]]
    assert second[1]["messages"][2]["content"].startswith("best says")


def test_a_message_that_was_not_answered_is_dropped(chat):
    run, asked = chat

    async def scenario(app, pilot):
        await open_chat(app, pilot)
        await pilot.press(*"long", "enter")
        await until(pilot, lambda: "too long" in text_of(app))
        await pilot.press(*"hello", "enter")
        await until(pilot, lambda: "best says [2J[/foo] 2" in text_of(app))

    drive(scenario, run=run)
    assert [turn["content"] for turn in asked()[-1]["messages"]] == ["Reply.", "hello"]


def test_one_policy_answers_although_the_other_fails(chat):
    run, asked = chat

    async def scenario(app, pilot):
        await open_chat(app, pilot)
        await pilot.press(*"half", "enter")
        await until(pilot, lambda: "too long for it" in text_of(app) and "base says [2J[/foo] 2" in text_of(app))
        assert "→ ask less" in text_of(app)
        await pilot.press(*"hello", "enter")
        await until(pilot, lambda: "base says [2J[/foo] 4" in text_of(app) and "best says [2J[/foo] 2" in text_of(app))
        assert "too long for it" not in text_of(app)

    drive(scenario, run=run)
    _, base, best = asked()
    assert [turn["content"] for turn in base["messages"]] == ["Reply.", "half", "base says \x1b[2J[/foo] 2", "hello"]
    assert [turn["content"] for turn in best["messages"]] == ["Reply.", "hello"]


@pytest.mark.parametrize("size", [(80, 24), (50, 16)])
def test_keys_scroll_to_earlier_turns(chat, size):
    run, _ = chat

    async def scenario(app, pilot):
        await open_chat(app, pilot)
        for turn in range(1, 8):
            await pilot.press(*"more", "enter")
            await until(pilot, lambda turn=turn: text_of(app).count(f"[/foo] {2 * turn}") == 2)
            assert turn > 1 or text_of(app).count("system prompt") == 2
        assert "system prompt" not in text_of(app)
        await pilot.press(*["pageup"] * 9)
        await until(pilot, lambda: text_of(app).count("system prompt: Reply.") == 2)
        await pilot.press(*["pagedown"] * 9)
        await until(pilot, lambda: text_of(app).count("[/foo] 14") == 2)

    drive(scenario, run=run, size=size)


def test_a_single_turn_template_gets_one_turn(chat, chat_without_a_model):
    run, asked = chat
    chat_without_a_model(multi_turn=False)

    async def scenario(app, pilot):
        await open_chat(app, pilot)
        for word in ("hello", "more"):
            await pilot.press(*word, "enter")
            await until(pilot, lambda word=word: word in text_of(app) and "best says [2J[/foo] 2" in text_of(app))

    drive(scenario, run=run)
    assert [len(request["messages"]) for request in asked()] == [2, 2]


def test_a_chat_that_dies_reports_why_and_can_restart(chat):
    run, _ = chat

    async def scenario(app, pilot):
        await open_chat(app, pilot)
        await pilot.press(*"die", "enter")
        await until(pilot, lambda: "the chat process ended: out of memory" in text_of(app))
        await pilot.press(*"hello", "enter")
        await pilot.pause(0.3)
        assert "out of memory" in text_of(app) and "answering" not in text_of(app)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "loading" not in text_of(app) and "out of memory" not in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "best says [2J[/foo] 2" in text_of(app))

    drive(scenario, run=run)


def test_a_chat_that_cannot_start_reports_why(chat, tmp_path):
    run, _ = chat
    script = 'import sys\nprint(\'{"error": "no such model", "hint": "fetch it"}\')\nsys.exit("a last word")\n'
    (tmp_path / "chat.py").write_text(script)

    async def scenario(app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "to try again" in text_of(app))
        assert "no such model" in text_of(app) and "→ fetch it" in text_of(app) and "last word" not in text_of(app)

    drive(scenario, run=run)


def test_leaving_the_chat_ends_its_process(chat, tmp_path):
    run, _ = chat

    async def scenario(app, pilot):
        await open_chat(app, pilot)
        pid = int((tmp_path / "chat.jsonl").read_text())
        assert is_alive(pid)
        await pilot.press("escape")
        await until(pilot, lambda: not is_alive(pid))

    drive(scenario, run=run)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
