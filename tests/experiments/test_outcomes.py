"""Collecting the results of the runs of an experiment."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import instructions, outcomes, tables
from tests.support.small_runs import make_small_run
from tspin_mlx.base.errors import UsageError
from tspin_mlx.runs.event_log import view_of
from tspin_mlx.runs.run import Run


def test_supervised_training_counts_the_tokens_of_its_prompts(tiny_model, tmp_path):
    rows = [{"prompt": "a" * length, "response": f"[{length}]"} for length in range(1, 9)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = make_small_run(
        tiny_model, tmp_path, f"data.train={tmp_path}/long.jsonl", "objective.kind=sft", "generation.prompts=4",
    )  # fmt: skip
    (row,) = outcomes.collect([run])["runs"]
    steps = [step for step in view_of(run / "events.jsonl").steps if step["iteration"] is not None]
    assert row["trained_tokens"] == pytest.approx(sum(step["tokens_per_s"] * step["elapsed_s"] for step in steps))


def test_collect(small_run, tmp_path):
    found = outcomes.collect([small_run])
    assert found == outcomes.collect([small_run.parent]) and found["unfinished"] == []
    (row,) = found["runs"]
    run, view = Run(small_run), view_of(small_run / "events.jsonl")
    assert (row["name"], row["sweep"], row["arm"], row["seed"], row["settings"]) == ("small", "runs", "small", 0, {})
    assert row["best"] == run.result()["best"] and row["measure"] == "nll"
    assert list(row["validation"]) == ["base", "initial", "iterations/000", "iterations/001"]
    assert row["validation"]["iterations/001"] == pytest.approx(view.evaluations["iterations/001"], abs=1e-6)
    assert {"nll", "stop_rate", "exact_match", "advantage_current", "advantage_historical"} <= {
        *row["validation"]["initial"]
    }
    assert row["test"][row["best"]] == pytest.approx(run.test()[row["best"]]["metrics"], abs=1e-6)
    # One epoch: what the steps say of their speed and time gives the tokens, too.
    seen = sum(step["tokens_per_s"] * step["elapsed_s"] for step in view.steps if step["iteration"] is not None)
    assert row["trained_tokens"] == pytest.approx(seen)
    lengths = [news["generate/length"] for news in view.news if news["kind"] == "generated"]
    assert row["sampled_tokens"] == pytest.approx(8 * sum(lengths))
    assert row["peak_memory_bytes"] > 0 and row["taken_over"] == 0
    parts = ("proto_synthetic", "synthetic", "triplets.jsonl", "adapter")
    took = {
        part: [s for phase, s in view.durations.items() if phase.endswith(f"/{part}") and "/0" in phase]
        for part in parts
    }
    means = [
        sum(some) / len(some)
        for some in (took["proto_synthetic"] + took["synthetic"], took["triplets.jsonl"], took["adapter"])
    ]
    assert row["iteration_seconds"] == pytest.approx(sum(means), abs=0.06)
    assert row["seconds"] == pytest.approx(sum(view.durations.values()), abs=0.06)
    assert row["versions"]["mlx"] and len(json.dumps(found)) < 10_000
    with pytest.raises(UsageError, match="two runs are called small"):
        outcomes.collect([small_run, small_run])
    assert "### runs" not in tables.markdown(found["runs"]) and "exact_match" in tables.markdown(
        found["runs"], "exact_match"
    )


def test_collect_leaves_out_what_is_not_finished(make_run):
    make_run("waves", until="iterations/001/triplets.jsonl")
    with pytest.raises(UsageError, match="no finished run"):
        outcomes.collect([Path("runs")])


def test_settings_that_differ():
    rows = [
        {"settings": {"run.seed": seed, "objective.beta": beta, "lora.rank": 4, **more}}
        for seed, beta, more in ((0, 0.1, {}), (1, 0.0, {"data.train_limit": 8}))
    ]
    outcomes._keep_what_differs(rows)
    assert [row["settings"] for row in rows] == [
        {"objective.beta": 0.1, "data.train_limit": None},
        {"objective.beta": 0.0, "data.train_limit": 8},
    ]


def test_answers_to_instructions_are_checked(make_run):
    run = make_run("waves")
    form = json.dumps({"count": "two", "separator": "commas", "case": "", "order": ""})
    prompts = [replace(p, answer=form, system=instructions.SYSTEM) for p in run.prompts().validation]
    answers = [{"text": text} for text in ("ash, oak", "ash", "fir, elm")]
    assert outcomes._checked(answers, prompts) == {"form": pytest.approx(2 / 3)}
    assert outcomes._checked(answers, run.prompts().validation) == {}


@pytest.mark.parametrize(
    ("name", "sweep", "arm"),
    [
        ("snips-full-tspin-25-seed-0", "snips-full", "tspin-25"),
        ("snips-rates-sft-learning_rate-2e-4-seed-100", "snips-rates", "sft-learning_rate-2e-4"),
        ("alone", "runs", "alone"),
    ],
)
def test_the_arm_of_a_run(name, sweep, arm):
    assert outcomes.arm_of(name, sweep) == arm
