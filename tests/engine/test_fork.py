"""A fork, worked on to its end."""

import shutil

from tests.support.digests import run_digests
from tests.support.small_runs import new_run, work_on
from tspin_mlx.runs.run import Run


def test_a_fork_takes_over_what_is_still_valid_and_ends_as_if_it_had_made_it(finished, workshop, tmp_path):
    origin = finished[0]
    fork = new_run(workshop, tmp_path, "objective.beta=0.7", "run.name=new", origin=origin)
    reused = fork.about["forked_from"]["reused"]
    assert "iterations/001/triplets.jsonl" in reused  # the first iteration has no historical term
    assert "iterations/001/adapter" not in reused
    events = work_on(fork)
    assert not {event["phase"] for event in events if event["kind"] == "phase_started"} & set(reused)
    afresh = new_run(workshop, tmp_path / "afresh", "objective.beta=0.7")
    work_on(afresh)
    assert run_digests(fork) == run_digests(afresh)
    assert run_digests(fork) != run_digests(origin)
    assert fork.result() == afresh.result() and fork.test() == afresh.test()


def test_a_fork_does_not_take_over_what_is_damaged(finished, workshop, tmp_path):
    origin = tmp_path / "origin"
    shutil.copytree(finished[0].path, origin, symlinks=True)
    with (origin / "initial/adapter/adapters.safetensors").open("ab") as file:
        file.write(b"x")
    fork = new_run(workshop, tmp_path, "run.name=new", origin=Run(origin))
    assert "initial/adapter" not in fork.about["forked_from"]["reused"]
    work_on(fork)
    assert run_digests(fork) == run_digests(finished[0])
