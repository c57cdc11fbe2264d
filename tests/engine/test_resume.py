"""A run that was interrupted continues where it was, and makes again only what is damaged."""

import json
import shutil

import pytest

from tests.support.digests import run_digests
from tests.support.small_runs import new_run, work_on
from tspin_mlx import tspin
from tspin_mlx.base.errors import DamagedError, SetupError, Stopped, UsageError
from tspin_mlx.base.stop import Stop
from tspin_mlx.engine.worker import work
from tspin_mlx.runs.run import Run


@pytest.mark.parametrize("kind", ["warmup", "generate", "pair", "train", "evaluate", "choose", "test", "test_best"])
def test_a_run_that_was_interrupted_continues_and_ends_the_same(finished, workshop, tmp_path, kind):
    class PulledPlugError(Exception):
        pass

    run = new_run(workshop, tmp_path)
    kinds = {phase.target: phase.kind for phase in run.outline.phases}

    def pull_the_plug(event):
        if event["kind"] == "phase_started" and kinds[event["phase"]] == kind:
            raise PulledPlugError

    with pytest.raises(PulledPlugError):
        work(run, pull_the_plug)
    assert not run.is_finished
    done_before = {p.target for p in run.outline.phases if (run.path / p.target).exists()}
    events = work_on(new_run(workshop, tmp_path))
    repeated = {event["phase"] for event in events if event["kind"] == "phase_started"} & done_before
    assert not repeated
    assert run_digests(run) == run_digests(finished[0])


def test_complete_shards_are_kept(finished, workshop, tmp_path, monkeypatch):
    class PulledPlugError(Exception):
        pass

    calls = []
    generate = tspin.generate

    def twice(*args):
        calls.append(len(args[1]))
        if len(calls) == 2:
            raise PulledPlugError
        return generate(*args)

    run = new_run(workshop, tmp_path)
    with monkeypatch.context() as patched, pytest.raises(PulledPlugError):
        patched.setattr(tspin, "generate", twice)
        work_on(run)
    calls.clear()

    def counted(*args):
        calls.append(len(args[1]))
        return generate(*args)

    monkeypatch.setattr(tspin, "generate", counted)
    work_on(new_run(workshop, tmp_path))
    assert calls[:2] == [3, 2]  # of shards of 3, 3 and 2 prompts the first was there already
    assert run_digests(run) == run_digests(finished[0])


def test_a_finished_run_loads_no_model_and_does_nothing(finished, workshop):
    run, _ = finished
    before = run_digests(run)
    events = work_on(new_run(workshop, run.path.parent))
    assert [event["kind"] for event in events] == ["run_started", "run_finished"]
    assert run_digests(run) == before


def test_a_run_is_not_continued_with_other_settings(finished, workshop):
    with pytest.raises(UsageError, match=r"objective.beta  0.1 → 0.5"):
        new_run(workshop, finished[0].path.parent, "objective.beta=0.5")


def test_a_run_is_not_continued_with_other_data(finished, workshop, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(workshop, other)
    with (other / "train.jsonl").open("a") as file:
        file.write('{"prompt": "one more", "response": "yes"}\n')
    with pytest.raises(UsageError, match="data files have changed"):
        new_run(other, finished[0].path.parent)


@pytest.fixture
def stopped_at(workshop, tmp_path):
    """A run that was stopped when it had emitted an event of some kind for the n-th time."""

    def stop_at(kind, count, *overrides):
        run = new_run(workshop, tmp_path, "run.checkpoint_seconds=0", *overrides)
        stop, seen = Stop(), []

        def listen(event):
            seen.extend([event] * (event["kind"] == kind))
            if len(seen) == count:
                stop.request("step")

        with pytest.raises(Stopped):
            work(run, listen, stop)
        return run

    return stop_at


def damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_a_stopped_run_makes_no_step_twice(finished, stopped_at):
    run = stopped_at("step", 1, "warmup.epochs=1")
    assert list((run.path / "initial/checkpoints").iterdir())
    events = work_on(run)
    assert next(event["step"] for event in events if event["kind"] == "step") == 2
    assert run_digests(run) == run_digests(finished[0])
    assert not (run.path / "initial/checkpoints").exists()


def test_scoring_reports_progress_and_heeds_a_request_to_stop(finished, workshop, tmp_path, monkeypatch):
    monkeypatch.setattr("tspin_mlx.engine.context._PROGRESS_EVERY", 0)
    monkeypatch.setattr("tspin_mlx.scoring.logprobs._EXAMPLES_AT_ONCE", 1)
    run, stop, told = new_run(workshop, tmp_path), Stop(), []

    def listen(event):
        if event["kind"] == "progress":
            told.append((event["done"], event["total"]))
            if event["done"] == 3:
                stop.request("step")

    with pytest.raises(Stopped):
        work(run, listen, stop)
    assert told[-3:] == [(2, 4), (2, 4), (3, 4)]  # four prompts are answered, one is scored, two are
    assert not run.evaluations()
    work_on(run)
    assert run_digests(run) == run_digests(finished[0])


def test_a_damaged_checkpoint_is_left_out_and_the_one_before_it_used(finished, workshop, stopped_at):
    run = stopped_at("step", 3, "training.epochs=2")
    checkpoints = sorted((run.path / "iterations/000/checkpoints").iterdir())
    assert len(checkpoints) == 1
    damage(checkpoints[0] / "optimizer.safetensors")
    events = work_on(run)
    assert next(event["message"] for event in events if event["kind"] == "warning").startswith(
        "iterations/000/checkpoints/step-000001/optimizer.safetensors is damaged"
    )
    assert next(event["step"] for event in events if event["kind"] == "step") == 1
    afresh = new_run(workshop, run.path.parent / "afresh", "training.epochs=2")
    work_on(afresh)
    assert run_digests(run) == run_digests(afresh)


def test_a_damaged_shard_is_sampled_again(finished, workshop, tmp_path, monkeypatch):
    run = new_run(workshop, tmp_path)
    commit = run.store.commit_folder

    def no_more(aside, name):
        raise KeyError

    monkeypatch.setattr(run.store, "commit_folder", no_more)
    with pytest.raises(KeyError):
        work_on(run)
    monkeypatch.setattr(run.store, "commit_folder", commit)
    damage(run.path / "iterations/000/.proto_synthetic.partial/shard-0001.jsonl")
    events = work_on(run)
    assert "shard-0001.jsonl is damaged" in next(event for event in events if event["kind"] == "warning")["message"]
    assert run_digests(run) == run_digests(finished[0])


def test_a_damaged_result_is_refused_and_made_again_when_it_is_removed(finished, workshop, tmp_path):
    path = tmp_path / "task"
    shutil.copytree(finished[0].path, path, symlinks=True)
    for name in ("result.json", "test.json"):
        (path / name).unlink()
    damage(path / "iterations/000/adapter/adapters.safetensors")
    with pytest.raises(DamagedError, match=r"iterations/000/adapter/adapters.safetensors") as caught:
        work(Run(path))
    assert "remove it and resume" in caught.value.hint
    shutil.rmtree(path / "iterations/000/adapter")
    work(Run(path))
    assert run_digests(Run(path)) == run_digests(finished[0])


def test_a_model_that_has_changed_under_a_run_is_refused(workshop, tmp_path, tiny_model):
    other = tmp_path / "model"
    shutil.copytree(tiny_model, other)
    run = new_run(workshop, tmp_path, f"model={other}")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))
    with pytest.raises(SetupError, match="files have changed since the run was created"):
        work(run)
