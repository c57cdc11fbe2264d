"""Metrics in trackers: every step once, under its own name; the run continues whatever the tracker does."""

import sys
from types import SimpleNamespace

import pytest

from tspin_mlx.base.errors import SetupError, UsageError
from tspin_mlx.cli.follow import showing
from tspin_mlx.cli.start import Shown
from tspin_mlx.jobs import trackers
from tspin_mlx.jobs.trackers import PACKAGES, Reporter, Tracker
from tspin_mlx.runs.event_log import read_events, view_of
from tspin_mlx.runs.run import Run


@pytest.fixture
def sent(monkeypatch):
    """Stand-ins for all trackers, and the calls they got: (tracker, what, arguments)."""
    said = []

    def teller(name, what):
        def told(*arguments, **named):
            said.append((name, what, arguments, named))
            if what == "SummaryWriter":
                return SimpleNamespace(**{call: teller(name, call) for call in ("add_scalar", "add_text", "close")})
            return None

        return told

    calls = {
        **dict.fromkeys(("trackio", "wandb", "swanlab"), ("init", "log", "finish")),
        "mlflow": ("set_experiment", "start_run", "log_params", "log_metrics", "end_run"),
        "tensorboardX": ("SummaryWriter",),
    }
    for name, names in calls.items():
        stand_in = SimpleNamespace(__spec__=name, **{call: teller(name, call) for call in names})
        monkeypatch.setitem(sys.modules, name, stand_in)
    return said


def metrics(sent, name):
    """The steps' losses as they came, by the number of the step."""
    if name == "tensorboard":
        return {args[2]: args[1] for _, what, args, _ in sent if what == "add_scalar" and args[0] == "loss"}
    logged = [(args[0], named["step"]) for _, what, args, named in sent if what in ("log", "log_metrics")]
    return {step: values["loss"] for values, step in logged if "loss" in values}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_tracker_gets_every_step_and_evaluation_once(small_run, sent, name, capsys):
    run = Run(small_run)
    with showing(run, plain=True, report_to=[name]) as show:
        for event in read_events(run.events_path):  # once more, as after a crash of the engine
            show(event)
    view = view_of(run.events_path)
    assert metrics(sent, name) == {n: step["loss"] for n, step in enumerate(view.steps, start=1)}
    assert "eval/nll" in str(sent) and "generate/stop_rate" in str(sent) and "small" in str(sent[:2])
    assert sent[-1][1] in ("finish", "end_run", "close") and [what for _, what, *_ in sent].count(sent[-1][1]) == 1
    assert "objective.alpha" in str(sent[:3])


def test_a_tracker_that_fails_is_left_out_and_the_others_are_not(small_run, sent, monkeypatch, capsys):
    def fail(*arguments, **named):
        raise ConnectionError("no route to the tracker")

    monkeypatch.setattr(sys.modules["wandb"], "log", fail)
    with showing(Run(small_run), plain=True, report_to=["wandb", "trackio"]):
        pass
    assert capsys.readouterr().err.count("wandb gets no more metrics: no route to the tracker") == 1
    assert len(metrics(sent, "trackio")) == len(view_of(small_run / "events.jsonl").steps)
    assert ("wandb", "finish", (), {}) not in sent and ("trackio", "finish", (), {}) in sent


def test_a_missing_package_is_named_before_anything_begins(small_run, sent, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else name)
    with pytest.raises(SetupError, match="tensorboard needs the package tensorboardX") as caught:
        Shown(report_to=["trackio", "tensorboard"])
    assert "tspin-mlx[tensorboard]" in caught.value.hint
    with pytest.raises(UsageError, match="unknown tracker 'trakio'") as caught:
        Shown(report_to=["trakio"])
    assert caught.value.hint == "did you mean trackio?"
    with pytest.raises(UsageError, match="unknown tracker 'trakio'"), showing(Run(small_run), report_to=["trakio"]):
        pass
    for other in ({"detach": True}, {"tui": True}):
        with pytest.raises(UsageError):
            Shown(report_to=["trackio"], **other)
    assert sent == []


def test_a_tracker_that_refuses_is_reported_and_those_opened_before_are_finished(small_run, sent, monkeypatch):

    def refuse(**named):
        raise ValueError("log in first\nat some address")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(__spec__="wandb", init=refuse))
    with (
        pytest.raises(SetupError, match=r"^wandb could not be opened: log in first$"),
        showing(Run(small_run), report_to=["trackio", "wandb"]),
    ):
        pass
    assert sent[-1] == ("trackio", "finish", (), {})


def test_earlier_events_come_with_the_first_new_one(small_run, sent, capsys):
    with showing(Run(small_run), plain=True, report_to=["trackio"]) as show:
        assert not metrics(sent, "trackio")  # the engine is started meanwhile
        show({"kind": "step", "time": 9.0, "phase": "new", "iteration": 9, "step": 1, "steps": 2, "loss": 0.5,
              "tokens_per_s": 1.0, "elapsed_s": 1.0})  # fmt: skip
        steps = view_of(small_run / "events.jsonl").steps
        assert list(metrics(sent, "trackio").values()) == [*(step["loss"] for step in steps), 0.5]


def test_only_numbers_are_metrics():
    logged = []
    telling = Reporter(Tracker(lambda values, step: logged.append((values, step)), lambda: None))
    telling.tell({"kind": "step", "time": 9.0, "phase": "p", "iteration": None, "step": 1, "steps": 2, "loss": 0.5})
    telling.tell({"kind": "progress", "time": 9.0, "done": 1})
    telling.tell({"kind": "evaluated", "time": 9.0, "policy": "base", "eval/nll": 2})
    assert logged == [({"loss": 0.5}, 1), ({"eval/nll": 2.0}, 1)]
