"""Fixtures of the app's tests."""

import json
import sys

import pytest

from tests.tui.driver import TRAINING
from tspin_mlx.tui.state import processes

#: Stands in for ``tspin-mlx``: does what the screens expect of it.
COMMAND = r"""
import json, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\n")
if "broken" in " ".join(words):
    sys.exit("error: recipe:3: unknown key\n  → did you mean epochs?")
if words[0] == "plan":
    print(open({plan!r}).read())
elif words[0] == "run":
    print(json.dumps({{"run": {run!r}, "started": "training.iterations=9" not in words}}))
else:
    print("made exports/x\x1b[2J [/foo]")
    print("a note", file=sys.stderr)
    sys.exit(5 if "--yes" in words else 0)
"""


@pytest.fixture
def commands(make_run, tmp_path, monkeypatch):
    """Replace the command line with a fake; return a function that returns its calls."""
    run = make_run("made", until=TRAINING)
    asked = tmp_path / "asked.jsonl"
    script = tmp_path / "fake.py"
    script.write_text(COMMAND.format(log=str(asked), plan=str(run.path / "plan.json"), run=str(run.path)))
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, str(script)])
    return lambda: [json.loads(line) for line in asked.read_text().splitlines()]
