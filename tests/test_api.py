"""The Python API, used as a script or a notebook would."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tspin_mlx as ts
from tspin_mlx.base.errors import BusyError, DataError, DivergedError, RecipeError, Stopped, UsageError
from tspin_mlx.jobs.control import request_stop
from tspin_mlx.runs.lock import is_held
from tspin_mlx.runs.run import Run

ROWS = [{"prompt": f"train {i}", "response": f"[{i}]", "system": "Be brief."} for i in range(8)]
HELD_OUT = [{"prompt": f"other {i}", "response": f"[{i}]", "system": "Be brief."} for i in range(3)]
SMALL = {
    "lora.rank": 4,
    "generation.max_tokens": 8,
    "warmup.epochs": 1,
    "warmup.learning_rate": 0.01,
    "training.iterations": 1,
    "training.batch_size": 4,
    "training.learning_rate": 0.01,
    "evaluation.metrics": ["exact_match", "json_valid"],
}


def train(model, folder, **more):
    settings = SMALL | more.pop("settings", {})
    given = {"model": model, "data": ROWS, "validation": HELD_OUT, "name": "small", "folder": folder, "on_event": None}
    return ts.train(**(given | more), settings=settings)


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    return train(tiny_model, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def policy(run):
    return ts.load(run, "iteration 0")


def test_rows_are_trained_on_and_kept_by_their_content(run):
    assert isinstance(run, ts.Run) and run.is_finished and run.name == "small"
    assert set(run.evaluations()) == {"base", "initial", "iterations/000"}
    assert [prompt.text for prompt in run.prompts().validation] == ["other 0", "other 1", "other 2"]
    kept = sorted((run.path.parent / "data").glob("*.jsonl"))
    assert sorted(len(path.read_text().splitlines()) for path in kept) == [3, 8]


def test_again_it_is_the_same_run_and_nothing_is_done(run, tiny_model):
    events = []
    again = train(tiny_model, run.path.parent, on_event=events.append)
    assert again.path == run.path and events == []
    with pytest.raises(UsageError, match="was made with other settings"):
        train(tiny_model, run.path.parent, settings={"lora.rank": 2})


def test_events_are_heard_and_an_error_in_the_listener_stops_the_run_with_nothing_lost(tiny_model, tmp_path):
    class EnoughError(Exception):
        pass

    heard = []

    def listener(event):
        heard.append(event["kind"])
        if event["kind"] == "step":
            raise EnoughError

    with pytest.raises(EnoughError):
        train(tiny_model, tmp_path, on_event=listener, settings={"training.iterations": 30, "training.epochs": 30})
    assert heard[0] == "run_started" and "phase_started" in heard
    run = Run(tmp_path / "small")
    assert not is_held(run.path) and not run.is_finished


def test_stopped_from_elsewhere_it_raises_and_resume_continues(tiny_model, tmp_path):
    ended = []

    def stop():
        while not (tmp_path / "small" / "iterations" / "000" / "triplets.jsonl").exists():
            time.sleep(0.01)
        request_stop(Run(tmp_path / "small"), "step")

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Stopped):
        train(tiny_model, tmp_path, settings={"training.iterations": 2, "training.epochs": 20})
    thread.join()
    kinds = []
    run = ts.resume(str(tmp_path / "small"), on_event=lambda event: kinds.append(event["kind"]) or ended.append(event))
    assert run.is_finished and kinds[-1] == "run_finished"


def test_a_run_on_which_somebody_works_is_busy(tiny_model, tmp_path):
    refused = []

    def again(event):
        if event["kind"] == "run_started":
            with pytest.raises(BusyError) as caught:
                ts.resume(tmp_path / "small", on_event=None)
            refused.append(caught.value)

    train(tiny_model, tmp_path, on_event=again)
    assert "is in use by process" in refused[0].message


def test_an_error_that_the_engine_reports_is_raised(tiny_model, tmp_path):
    with pytest.raises(DivergedError, match="not finite") as caught:
        train(tiny_model, tmp_path, settings={"warmup.learning_rate": 1e30, "training.max_grad_norm": None})
    assert isinstance(caught.value, ts.TspinError) and "learning_rate" in caught.value.hint


def test_mistakes_are_found_before_anything_is_written(tiny_model, tmp_path):
    with pytest.raises(RecipeError, match=r"unknown key lora\.rnak"):
        train(tiny_model, tmp_path / "a", settings={"lora.rnak": 4})
    with pytest.raises(DataError, match=r"\.jsonl:1: "):
        train(tiny_model, tmp_path / "b", data=[{"question": "a"}])
    assert not list(tmp_path.glob("*/small"))
    with pytest.raises(UsageError, match="no such run"):
        ts.load(tmp_path / "none")


def test_one_prompt_many_prompts_and_conversations(policy):
    assert "iteration 0 of small" in repr(policy)
    one = policy.generate("train 1")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "train 1"}]
    assert policy.generate_batch(["train 2", "train 1", turns])[1:] == [one, one]
    sampled = policy.generate_batch(["train 1"] * 2 + ["train 3"], temperature=1.0, seed=3)
    assert sampled == policy.generate_batch(["train 1"] * 2 + ["train 3"], temperature=1.0, seed=3, batch_size=1)
    assert len(policy.generate("train 1", max_tokens=2)) <= 2
    assert policy.generate_batch([]) == []
    with pytest.raises(UsageError, match=r"prompt 0 has .* tokens, but the model's context length is"):
        policy.generate("x" * 5000)


def test_measured_again_it_is_worth_what_the_run_says(run, policy):
    again, kept = policy.evaluate(), run.evaluations()["iterations/000"]["metrics"]
    assert {name: again[name] for name in ("nll", "exact_match", "stop_rate")} == pytest.approx(
        {name: kept[name] for name in ("nll", "exact_match", "stop_rate")}
    )
    assert policy.evaluate(HELD_OUT) == pytest.approx(again)
    assert policy.evaluate(ROWS, metrics=["numeric"], limit=2).keys() >= {"nll", "numeric"}
    with pytest.raises(UsageError, match="unknown metric 'exact'"):
        policy.evaluate(metrics=["exact"])
    with pytest.raises(DataError, match=r"rows\.jsonl:1"):
        policy.evaluate([{"prompt": "a"}])


def test_the_package_shows_its_api_and_nothing_else():
    assert set(ts.__all__) <= set(dir(ts))
    assert ts.losses.tspin_loss.__module__ == "tspin_mlx.method.losses"
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ts.trian  # noqa: B018


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MLX brings its BLAS")
@pytest.mark.parametrize(("order", "warned"), [("tspin_mlx, mlx.core", False), ("mlx.core, tspin_mlx", True)])
def test_mlx_imported_first_on_a_cpu_is_not_slow_in_silence(order, warned):
    from tspin_mlx.base.machine import has_openblas, on_cpu

    if not on_cpu() or not has_openblas():
        pytest.skip("needs OpenBLAS and no GPU")
    done = subprocess.run([sys.executable, "-c", f"import {order}"], capture_output=True, text=True, check=True)
    assert ("import tspin_mlx before mlx" in done.stderr) == warned


def test_a_script_prints_lines_as_it_goes(tiny_model, tmp_path):
    script = (
        "import json, sys, tspin_mlx as ts\n"
        f"rows, held_out, settings = json.loads({json.dumps(json.dumps([ROWS, HELD_OUT, SMALL]))})\n"
        f"run = ts.train(model={str(tiny_model)!r}, data=rows, validation=held_out, name='s', folder={str(tmp_path)!r},"
        " settings=settings)\n"
        "print(ts.load(run, 0).generate('train 1'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "iteration 0" in done.stdout and len(done.stdout.splitlines()) > 5


def test_the_example_of_the_documentation_runs(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    rows = [{"prompt": f"dim lamp {i}", "response": f'{{"percent": {i}}}'} for i in range(24)]
    (tmp_path / "held-out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    code = re.sub(r"rows = \[.*?\n\]", f"rows = {rows!r}", code, flags=re.DOTALL)
    code = code.replace('"smollm2-135m"', repr(str(tiny_model))).replace('"data.validation_size": 16', "**small")
    pushed = []
    monkeypatch.setattr(ts.TrainedModel, "push", lambda policy, repo: pushed.append(repo))
    small = {"data.validation_size": 4, "generation.max_tokens": 8, "training.batch_size": 8}
    exec(code, {"small": small})
    assert (tmp_path / "runs" / "lights" / "best").exists() and pushed == ["lights-135m"]
    assert "json_field_f1" in capsys.readouterr().out
