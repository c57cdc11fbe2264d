"""Each objective, the warm-up and their options, in a whole run."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load

from tests.support.digests import run_digests
from tests.support.small_runs import new_run, work_on
from tspin_mlx.recipe.policy_names import BASE
from tspin_mlx.runs.event_log import read_events


def test_without_a_warm_up_the_initial_policy_is_the_model_itself(workshop, tmp_path, tiny_model):
    run = new_run(workshop, tmp_path, "warmup.epochs=0", "training.iterations=1")
    work_on(run)
    assert BASE not in run.evaluations()
    plain, _ = load(str(tiny_model))
    same, _ = load(str(tiny_model), adapter_path=str(run.path / "initial/adapter"))
    probe = mx.array([[5, 6, 7]])
    np.testing.assert_allclose(np.array(same(probe)), np.array(plain(probe)), rtol=1e-5, atol=1e-5)


def test_beta_0_everywhere_trains_on_pairs(workshop, tmp_path):
    run = new_run(workshop, tmp_path, "objective.beta=0")
    events = work_on(run)
    assert not [event for event in events if "advantage/historical" in event]
    rows = run.store.read_jsonl("iterations/001/triplets.jsonl")
    assert all(row["proto_synthetic"] is None for row in rows)


def test_self_play_on_part_of_the_prompts(workshop, tmp_path):
    run = new_run(workshop, tmp_path, "generation.prompts=5", "training.iterations=1")
    work_on(run)
    rows = run.store.read_jsonl("iterations/000/triplets.jsonl")
    assert [row["prompt"]["id"] for row in rows] == [p.id for p in run.prompts().train[:5]]
    assert run.plan().phases[2].train.steps == 2  # the warm-up sees all 8


def steps_of(events):
    return [event for event in events if event["kind"] == "step" and event["iteration"] is not None]


def test_spin_starts_each_iteration_at_no_reward(workshop, tmp_path):
    run = new_run(workshop, tmp_path, "objective.kind=spin", "objective.nll_weight=0", "training.batch_size=8")
    steps = steps_of(work_on(run))  # one step per iteration: the policy is still its own reference
    assert [event["iteration"] for event in steps] == [0, 1]
    assert [event["loss"] for event in steps] == pytest.approx([np.log(2)] * 2, abs=1e-5)
    assert [event["rewards/margins"] for event in steps] == pytest.approx([0, 0], abs=1e-5)
    assert all(abs(event["advantage/current"]) > 0.1 for event in steps)
    references, scores = (
        [row for i in range(2) for row in run.store.read_jsonl(f"iterations/{i:03}/{file}")]
        for file in ("reference.jsonl", "scores.jsonl")
    )
    for reference, score in zip(references, scores, strict=True):
        assert reference["id"] == score["id"]
        assert reference["logps"] == pytest.approx([score["annotated_logp"], score["synthetic_logp"]], rel=1e-4)


def test_t_spin_with_reference_has_a_historical_term_of_gains(workshop, tmp_path):
    options = ("objective.kind=tspin_with_reference", "objective.nll_weight=0", "training.batch_size=8")
    steps = steps_of(work_on(new_run(workshop, tmp_path, *options)))
    assert [event["loss"] for event in steps] == pytest.approx([np.log(2), 1.1 * np.log(2)], abs=1e-5)


def test_supervised_iterations_go_through_to_the_end(workshop, tmp_path):
    run = new_run(workshop, tmp_path, "objective.kind=sft", "training.epochs=4")
    steps = steps_of(work_on(run))
    assert run.is_finished
    assert steps[-1]["nll"] < steps[0]["nll"]
    assert not any(name.startswith(("advantage", "rewards")) for event in steps for name in event)
    assert not list(run.path.glob("iterations/*/*.jsonl"))


def test_only_the_beginning_of_a_difference_is_scored(workshop, tmp_path):
    steps = steps_of(work_on(new_run(workshop, tmp_path, "objective.contrast_tokens=1", "training.iterations=1")))
    whole = steps_of(work_on(new_run(workshop, tmp_path / "whole", "training.iterations=1")))
    assert all(few["length/rejected"] < all_["length/rejected"] for few, all_ in zip(steps, whole, strict=True))
    assert [few["length/chosen"] for few in steps] == [all_["length/chosen"] for all_ in whole]


def test_the_warm_up_sees_the_first_examples_only(workshop, tmp_path):
    def warmed_up(*overrides):
        run = new_run(workshop, tmp_path / str(len(overrides)), *overrides, "training.iterations=0")
        work_on(run)
        return run

    whole, half = warmed_up(), warmed_up("warmup.prompts=4")
    steps = [event for event in read_events(half.events_path) if event["kind"] == "step"]
    assert len(steps) == 1
    assert run_digests(half)["initial/adapter"] != run_digests(whole)["initial/adapter"]
