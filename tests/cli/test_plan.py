"""`plan`: every phase, from the recipe and its data alone."""

import json

from tests.support.command_line import cli


def test_plan_shows_every_phase_without_a_model(task):
    done = cli("plan", "task.yaml", "model=no/such-model", cwd=task)
    assert done.returncode == 0, done.stderr
    for target in ("base/eval.json", "initial/adapter", "iterations/000/adapter", "result.json"):
        assert target in done.stdout
    row = json.loads(cli("plan", "task.yaml", "--json", cwd=task).stdout)
    assert row["counts"] == {"train": 16, "validation": 4, "test": 0}
    assert [phase["kind"] for phase in row["phases"]][:4] == ["keep", "evaluate", "warmup", "evaluate"]
    assert not (task / "runs").exists()


def test_a_plan_says_what_it_leaves_out(task):
    with (task / "train.jsonl").open("a") as file:
        file.write("not JSON\n")
    done = cli("plan", "task.yaml", "data.skip_bad_rows=true", cwd=task)
    assert done.returncode == 0 and "skipped  1 rows, the first: train.jsonl:21: not valid JSON" in done.stdout
    rows = json.loads(cli("plan", "task.yaml", "data.skip_bad_rows=true", "--json", cwd=task).stdout)["skipped"]
    assert len(rows) == 1 and rows[0].startswith("train.jsonl:21")
