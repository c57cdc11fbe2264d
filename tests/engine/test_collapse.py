"""Signs that training does harm or has nothing left to learn: the warnings, and how the run ends."""

import math
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load

from tests.support.small_runs import new_run, work_on
from tspin_mlx import tspin
from tspin_mlx.evaluation import guard
from tspin_mlx.recipe.policy_names import BASE, INITIAL

RUINOUS = ("training.learning_rate=3", "objective.nll_weight=0", "guard.nll_rise=0.01")


@pytest.mark.parametrize("told", [True, False])
def test_a_contrast_that_is_saturated_from_the_start_is_reported_once(workshop, tmp_path, monkeypatch, told):
    monkeypatch.setattr(guard, "_SATURATED", math.inf if told else -math.inf)
    run = new_run(workshop, tmp_path, "warmup.epochs=0", "training.iterations=2")
    warnings = [event["message"] for event in work_on(run) if event["kind"] == "warning"]
    assert len([text for text in warnings if "warm up first" in text]) == told


def test_a_warning_says_that_there_is_nothing_left_to_learn(workshop, tmp_path, monkeypatch):
    def as_the_expert(policy, prompts, seeds, decoding, on_progress):
        return [prompt.annotated for prompt in prompts]

    monkeypatch.setattr(tspin, "generate", as_the_expert)
    run = new_run(workshop, tmp_path, "training.iterations=2")
    events = work_on(run)
    warnings = [event["message"] for event in events if event["kind"] == "warning"]
    found = [text for text in warnings if text.startswith("100.0% of the sampled answers are the expert's own")]
    assert (len(found), len([event for event in events if event["kind"] == "generated"])) == (2, 2)


def test_signs_of_collapse_are_reported_and_best_leads_to_the_start(workshop, tmp_path):
    run = new_run(workshop, tmp_path, *RUINOUS, "training.iterations=1")
    warnings = [event["message"] for event in work_on(run) if event["kind"] == "warning"]
    assert [message for message in warnings if message.startswith("iteration 0 shows signs of collapse: the expert's")]
    assert run.evaluations()["iterations/000"]["signs_of_collapse"]
    assert run.result()["best"] == INITIAL
    assert (run.path / "best").readlink() == Path("initial/adapter")


def test_a_collapse_can_end_self_play(workshop, tmp_path):
    run = new_run(workshop, tmp_path, *RUINOUS, "guard.stop=true")
    work_on(run)
    assert run.is_finished
    assert set(run.result()["candidates"]) == {BASE, INITIAL, "iterations/000"}
    assert not (run.path / "iterations/001").exists()
    assert set(run.test()) == {BASE, INITIAL}
    assert [event["kind"] for event in work_on(run)] == ["run_started", "run_finished"]


def test_if_everything_makes_it_worse_best_is_the_untouched_model(workshop, tmp_path, tiny_model):
    run = new_run(workshop, tmp_path, "warmup.learning_rate=30", "training.iterations=0")
    work_on(run)
    assert run.result()["best"] == BASE
    plain, _ = load(str(tiny_model))
    same, _ = load(str(tiny_model), adapter_path=str(run.path / "best"))
    probe = mx.array([[5, 6, 7]])
    np.testing.assert_allclose(np.array(same(probe)), np.array(plain(probe)), rtol=1e-5, atol=1e-5)
