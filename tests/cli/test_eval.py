"""`eval --harness`: a line per policy, task and measure; the harness itself is not needed to see that."""

import json
import sys

import pytest

from tspin_mlx.cli import harness, main
from tspin_mlx.evaluation import harness as evaluation


@pytest.fixture
def measured(tiny_run, monkeypatch, capsys):
    """What `eval` prints for two policies, whose results are given."""

    def results(policy, tasks, **options):
        assert tasks == ["gsm8k", "ifeval"] and options["limit"] == 3 and options["template"] == "chat"
        return {"gsm8k": {"exact_match,strict": 0.5, "exact_match_stderr,strict": 0.01, "acc,none": 0.25}}

    def output(*words):
        monkeypatch.setattr(harness, "require_harness", lambda: None)
        monkeypatch.setattr(evaluation, "run_harness", results)
        tasks = ["--harness", "gsm8k, ifeval", "--limit", "3", "--policy", "base", "--policy", "initial"]
        monkeypatch.setattr(sys, "argv", ["tspin-mlx", "eval", str(tiny_run), *tasks, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return output


def test_results_of_the_harness_are_a_table(measured):
    assert [line.split() for line in measured().splitlines()] == [
        ["policy", "task", "measure", "value", "±", "standard", "error"],
        ["base", "gsm8k", "exact_match", "(strict)", "0.5000", "0.0100"],
        ["base", "gsm8k", "acc", "0.2500", "–"],
        ["initial", "gsm8k", "exact_match", "(strict)", "0.5000", "0.0100"],
        ["initial", "gsm8k", "acc", "0.2500", "–"],
    ]


def test_results_of_the_harness_as_json_have_every_number(measured):
    rows = json.loads(measured("--json"))
    assert [(row["policy"], row["folder"]) for row in rows] == [("base", "base"), ("initial", "initial")]
    assert rows[0]["results"]["gsm8k"]["exact_match_stderr,strict"] == 0.01
