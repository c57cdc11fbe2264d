"""Talking to the policies of a run, in this process and as another program does."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from tspin_mlx.base.errors import UsageError
from tspin_mlx.base.seeds import derive
from tspin_mlx.generation.batch import Decoding, generate
from tspin_mlx.generation.chat_session import ChatSession
from tspin_mlx.generation.stream import PromptCache
from tspin_mlx.models.of_run import load_run, use_policy
from tspin_mlx.runs.run import Run


@pytest.fixture(scope="module")
def run(tiny_run):
    return Run(tiny_run)


@pytest.fixture(scope="module")
def session(run):
    return ChatSession(run)


def asked(text, system="Be brief."):
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def said(pieces):
    pieces = list(pieces)
    assert all(piece.finish_reason is None for piece in pieces[:-1])
    return "".join(piece.text for piece in pieces), pieces[-1].tokens, pieces[-1].finish_reason


def legible(text):
    """What a random model says in whole characters; mlx-lm streams broken ones otherwise than it decodes them."""
    return re.sub("[^!-~]", "", text)


def test_it_knows_how_training_asked(session):
    assert session.system == "Be brief." and session.multi_turn and session.max_tokens == 12
    assert session.names == ["base", "initial", "iteration 0", "iteration 1", "best"]


@pytest.mark.parametrize("name", ["base", "initial", "iteration 1"])
def test_a_policy_answers_just_as_when_it_was_evaluated(session, run, name):
    """The held-out answers of the run, streamed again."""
    folder = {"iteration 1": "iterations/001"}.get(name, name)
    kept = run.evaluations()[folder]["responses"]
    assert any(legible(row["text"]) for row in kept)
    for prompt, row in zip(run.prompts().validation, kept, strict=True):
        text, tokens, reason = said(session.answer(asked(prompt.text), name))
        assert (tokens, reason) == (len(row["tokens"]), row["finish_reason"])
        assert legible(text) == legible(row["text"])


def test_adapters_take_turns_and_leave_nothing_behind(session):
    alone = {name: said(session.answer(asked("hello"), name)) for name in ("base", "iteration 1")}
    assert alone["base"] != alone["iteration 1"]
    for name in ("iteration 1", "base", "iteration 1"):
        assert said(session.answer(asked("hello"), name)) == alone[name]


def test_sampling_repeats_itself_and_is_that_of_training(session, run):
    first = said(session.answer(asked("hello"), "base", temperature=1, max_tokens=30))
    assert said(session.answer(asked("hello"), "base", temperature=1, max_tokens=30)) == first
    assert said(session.answer(asked("hello"), "base", temperature=1, max_tokens=30, seed=1)) != first
    prompt = run.prompts().validation[0]
    policy = load_run(run, run.plan().recipe)
    use_policy(policy, run, "base")
    (expected,) = generate(policy, [prompt], [derive(5, "chat", 2)], Decoding(0.7, 1.0, 30, 1))
    text, tokens, _ = said(session.answer(asked(prompt.text), "base", temperature=0.7, max_tokens=30, seed=5))
    assert (legible(text), tokens) == (legible(expected.text), len(expected.tokens))


def test_earlier_turns_count(session):
    turns = [*asked("hello"), {"role": "assistant", "content": "no"}, {"role": "user", "content": "hello"}]
    assert said(session.answer(turns, "base"))[0] != said(session.answer(asked("hello"), "base"))[0]


def test_a_continued_conversation_is_answered_as_if_it_were_read_anew(session, run, monkeypatch):
    read = []
    take = PromptCache.take

    def spying(cache, model, prompt):
        layers, new = take(cache, model, prompt)
        read.append((len(prompt), len(new)))
        return layers, new

    monkeypatch.setattr(PromptCache, "take", spying)
    turns = asked("a question of some length")
    text, _, _ = said(session.answer(turns, "iteration 1"))
    next(session.answer(turns, "iteration 1"))  # broken off
    turns += [{"role": "assistant", "content": legible(text)}, {"role": "user", "content": "more"}]
    again = said(session.answer(turns, "iteration 1"))
    assert said(ChatSession(run).answer(turns, "iteration 1")) == again
    first, _, continued, anew = read
    assert first[0] < continued[0] and continued[1] < continued[0] - first[0] + 12 and anew[1] == anew[0]


def test_the_window_bounds_the_answer_and_then_refuses_the_conversation(session):
    """The tiny model's window is 256 tokens."""
    _, tokens, _ = said(session.answer(asked("x" * 190), "base", max_tokens=200))
    assert tokens <= 256 - 190
    with pytest.raises(UsageError, match=r"has \d+ tokens, but the model's context length is 256"):
        session.answer(asked("x" * 300), "base")


def test_a_template_that_takes_one_turn_says_so(session, monkeypatch):
    chat = said(session.answer(asked("x", system="x")[1:], "base"))
    data = session._recipe.data.model_copy(update={"template": "paper"})
    monkeypatch.setattr(session, "_recipe", session._recipe.model_copy(update={"data": data}))
    with pytest.raises(UsageError, match="has a system prompt, but"):
        session.answer(asked("hello"), "base")
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    with pytest.raises(UsageError, match="supports only one user turn"):
        session.answer(turns, "base")
    assert said(session.answer(turns[:1], "base")) != chat


class Server:
    """The server as a child process."""

    def __init__(self, run, *args):
        command = [sys.executable, "-m", "tspin_mlx.generation.chat_server", str(run), *args]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, request):
        self.process.stdin.write((request if isinstance(request, str) else json.dumps(request)) + "\n")
        self.process.stdin.flush()

    def read(self):
        return json.loads(self.process.stdout.readline())

    def read_answer(self):
        rows = [self.read()]
        while not rows[-1].get("done"):
            assert rows[-1].keys() == {"policy", "text"}
            rows.append(self.read())
        return "".join(row["text"] for row in rows[:-1]), rows[-1]

    def close(self):
        self.process.stdin.close()
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        return code


def test_another_program_can_chat(run, session):
    server = Server(run.path)
    assert server.read() == {
        "ready": True,
        "policies": ["base", "initial", "iteration 0", "iteration 1", "best"],
        "compare": ["base", "best"],
        "system": "Be brief.",
        "multi_turn": True,
        "max_tokens": 12,
    }
    request = {"messages": asked("hello"), "policies": ["base", "best"], "temperature": 0, "max_tokens": 9}
    server.ask(request)
    for name in ("base", "best"):
        text, end = server.read_answer()
        expected, tokens, reason = said(session.answer(asked("hello"), name, max_tokens=9))
        assert text == expected
        assert end == {"policy": name, "done": True, "tokens": tokens, "finish_reason": reason}
    for bad, complaint in (
        ("{", "bad request"),
        ({**request, "policies": ["base", "worst"]}, "no policy 'worst'"),
        ({**request, "messages": []}, "messages"),
        ({**request, "temperature": -1}, "temperature"),
        ({**request, "temprature": 0}, "temprature"),
    ):
        server.ask(bad)
        row = server.read()
        assert row.keys() == {"error", "hint"} and complaint in row["error"]
    server.ask({**request, "messages": asked("x" * 300)})
    for name in ("base", "best"):
        row = server.read()
        assert row["policy"] == name and "context length is 256" in row["error"] and row["hint"]
    server.ask(request)
    assert server.read_answer()[1]["policy"] == "base"  # it lives
    assert server.read_answer()[1]["policy"] == "best"
    assert server.close() == 0


def test_an_interrupt_ends_the_answer_and_not_the_server(run):
    server = Server(run.path, "--iteration", "0")
    assert server.read()["compare"] == ["base", "iteration 0"]
    server.process.send_signal(signal.SIGINT)  # nothing is under way
    time.sleep(0.2)
    # At this temperature the tiny model talks at random, and ends one answer in 258 tokens.
    request = {"messages": asked("hello"), "policies": ["base", "best"], "temperature": 1e6, "max_tokens": 200}
    server.ask(request)
    server.read()
    server.process.send_signal(signal.SIGINT)
    _, end = server.read_answer()
    assert end["finish_reason"] == "interrupted" and end["policy"] == "base" and 0 < end["tokens"] < 200
    server.ask({**request, "policies": ["best"], "max_tokens": 5})
    assert server.read_answer()[1]["policy"] == "best"
    assert server.close() == 0


def test_a_server_that_cannot_start_says_why(tmp_path, run):
    server = Server("nothing", "--folder", str(tmp_path))
    assert "no such run" in server.read()["error"]
    assert server.close() == 2
    server = Server(run.path, "--iteration", "9")
    assert "has no policy 'iteration 9'" in server.read()["error"]
    assert server.close() == 2
