"""Events in words: the plain lines of a pipe, and the live view of a terminal."""

import io
import sys

import pytest

from tspin_mlx.cli.live import LiveView
from tspin_mlx.view.event_text import event_text

STEP = {
    "kind": "step",
    "phase": "iterations/001/adapter",
    "iteration": 1,
    "step": 3,
    "steps": 8,
    "loss": 0.51234,
    "advantage/current": 12.5,
    "advantage/historical": -3.25,
    "tokens_per_s": 141.4,
}
STARTED = {
    "kind": "phase_started",
    "phase": "iterations/001/adapter",
    "title": "iteration 1: train on triplets",
    "iteration": 1,
}
FINISHED = {"kind": "phase_finished", "phase": "iterations/001/adapter", "elapsed_s": 75.2}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (STARTED, "iteration 1: train on triplets"),
        (STEP, "  step 3/8  loss 0.5123  current +12.50  historical −3.25  141 tokens/s"),
        (FINISHED, "  took 1m15s"),
        (FINISHED | {"elapsed_s": 0.01}, None),
        (
            {"kind": "chosen", "policy": "iterations/001", "metric": "nll", "value": 0.5},
            "best: iteration 1 (nll 0.500)",
        ),
        ({"kind": "warning", "message": "look out"}, "warning: look out"),
        (
            {
                "kind": "evaluated",
                "policy": "initial",
                "eval/nll": 0.6,
                "eval/length": 9.0,
                "eval/advantage_current": -4.0,
            },
            "  nll 0.600  current −4.00",
        ),
        ({"kind": "progress", "phase": "x", "done": 1, "total": 2, "tokens_per_s": 3.0}, None),
    ],
)
def test_events_as_lines(event, line):
    assert event_text(event) == line


def test_the_live_view_shows_both_advantages_and_keeps_what_is_finished(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    with LiveView(phases=4) as view:
        for event in (STARTED, STEP):
            view.show({"time": 0.0, **event})
        view._live.refresh()
        moving = screen.getvalue()
        view.show({"time": 1.0, **FINISHED})
    assert "loss 0.512" in moving and "current +12.50" in moving and "historical −3.25" in moving
    assert "3/8" in moving and "1/4" in moving
    assert "✓" in screen.getvalue() and "1m15s" in screen.getvalue()
