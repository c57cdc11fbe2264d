"""Measuring any policy of a run, from the command line and below it."""

import importlib.util
import json

import pytest

from tests.support import command_line
from tests.support.command_line import cli_here
from tests.support.small_runs import jsonl
from tspin_mlx.base.errors import DataError
from tspin_mlx.evaluation.of_run import held_out_prompts, measure_policies
from tspin_mlx.runs.run import Run

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason='needs the lm-evaluation-harness: pip install "tspin-mlx[eval]"'
)


@pytest.fixture(scope="module")
def run(tiny_run):
    return Run(tiny_run)


def cli(run, *args, **env):
    return command_line.cli("eval", run.path, *args, HF_HUB_OFFLINE="1", **env)


def nothing(*_):
    pass


def test_measured_again_a_policy_is_worth_the_same(run):
    prompts = held_out_prompts(run, None, None)
    found = list(measure_policies(run, ["base", "1"], prompts, run.plan().recipe.evaluation, nothing))
    for one, folder in zip(found, ("base", "iterations/001"), strict=True):
        kept = run.evaluations()[folder]
        assert one.folder == folder
        assert one.metrics == {name: pytest.approx(kept["metrics"][name], rel=1e-5) for name in one.metrics}
        assert one.metrics.keys() == {"nll", "stop_rate", "length", "exact_match", "json_valid"}
        assert [r.text for r in one.responses] == [row["text"] for row in kept["responses"]]


def test_other_examples_are_rendered_as_those_of_the_training(run, tmp_path):
    """The run's own validation file gives the run's own validation examples."""
    file = run.path.parents[1] / "validation.jsonl"
    again = held_out_prompts(run, str(file), None)
    assert again == run.prompts().validation
    assert held_out_prompts(run, str(file), 2) == again[:2]
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "x", "response": ""}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:1: 'response' is empty"):
        held_out_prompts(run, str(bad), None)
    with pytest.raises(DataError, match="no such file"):
        held_out_prompts(run, str(tmp_path / "none.jsonl"), None)


def test_the_command_prints_a_table_or_json_and_writes_the_answers(run, tmp_path, capsys):
    out = tmp_path / "answers.jsonl"
    options = ("--policy", "base", "--policy", "best", "--regex", r"^\[", "--metrics", "regex,numeric", "--limit", 2)
    done = cli(run, *options, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "validation (2 examples)" in done.stdout
    assert "base" in done.stdout and "best (" in done.stdout and "regex" in done.stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["policy"] for row in rows] == ["base", "base", "best", "best"]
    assert {"id", "system", "prompt", "annotated", "response", "finish_reason", "regex", "numeric"} < rows[0].keys()
    table = json.loads(cli_here(capsys, "eval", run.path, *options, "--json").stdout)
    for one in table:
        mine = [row for row in rows if row["policy"] == one["policy"]]
        assert one["examples"] == 2
        assert one["metrics"]["regex"] == sum(row["regex"] for row in mine) / 2
    again = cli_here(capsys, "eval", run.path, "--out", out)
    assert again.returncode == 2 and "exists already" in again.stderr


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (("--metrics", "exact_mach"), "unknown metric 'exact_mach'", "did you mean exact_match?"),
        (("--metrics", "regex"), "the metric 'regex' and the key 'regex' must be used together", ""),
        (("--regex", "("), "not a regular expression", ""),
        (("--policy", "beast"), "has no policy 'beast'", "did you mean best?"),
        (("--iteration", "7"), "has no policy 'iteration 7'", ""),
        (("--iteration", "0", "--policy", "best"), "not both", ""),
        (("--tasks-folder", "."), "need --harness", ""),
        (("--harness", "x", "--data", "y"), "do not go with --harness", ""),
    ],
)
def test_mistakes_are_reported_before_a_model_is_loaded(run, options, message, hint, capsys, monkeypatch):
    monkeypatch.setattr("tspin_mlx.models.load.load_policy", None)
    done = cli_here(capsys, "eval", run.path, *options)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert message in " ".join(done.stderr.replace("│", " ").split()) and hint in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="the lm-evaluation-harness is installed")
def test_without_the_harness_it_says_how_to_get_it(run, capsys):
    done = cli_here(capsys, "eval", run.path, "--harness", "gsm8k")
    assert done.returncode == 3
    assert 'pip install "tspin-mlx[eval]"' in done.stderr


TASK = """
task: tiny_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
{more}
"""
MORE = {
    "generate_until": "generation_kwargs: {until: ['5'], max_gen_toks: 12}\nmetric_list: [{metric: exact_match}]",
    "multiple_choice": "doc_to_choice: ['[', '{']\nmetric_list: [{metric: acc}]",
}


@pytest.fixture
def tasks(tmp_path):
    """Two tasks of the harness with their data, on this disk."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = tmp_path / "questions.jsonl"
    rows = [{"question": f"validation {i}", "answer": "["} for i in range(4)]
    data.write_text(jsonl(rows))
    for kind, more in MORE.items():
        (folder / f"{kind}.yaml").write_text(TASK.format(kind=kind, data=data, more=more))
    return folder


@needs_harness
def test_the_harness_measures_local_tasks_offline(run, tasks, tmp_path):
    done = cli(
        run, "--harness", "tiny_generate_until,tiny_multiple_choice", "--tasks-folder", tasks, "--json",
        "--policy", "base", "--policy", "1", "--system", "Be brief.", HF_HOME=tmp_path / "cache",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    base, trained = json.loads(done.stdout)
    assert (base["folder"], trained["folder"]) == ("base", "iterations/001")
    for row in (base, trained):
        assert row["results"].keys() == {"tiny_generate_until", "tiny_multiple_choice"}
    # The trained policy answers [5] to everything, of which the harness keeps what comes before its stop string.
    assert trained["results"]["tiny_generate_until"]["exact_match,none"] == 1
    assert trained["results"]["tiny_multiple_choice"]["acc,none"] == 1
    assert base["results"]["tiny_generate_until"]["exact_match,none"] == 0


@needs_harness
def test_the_harness_shows_a_table_and_names_unknown_tasks(run, tasks, tmp_path):
    options = ("--tasks-folder", tasks, "--limit", 2)
    done = cli(run, "--harness", "tiny_multiple_choice", *options, HF_HOME=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert "tiny_multiple_choice" in done.stdout and "acc" in done.stdout
    done = cli(run, "--harness", "tiny_multiple_choise", *options)
    assert done.returncode == 2, done.stderr
    assert "did you mean tiny_multiple_choice?" in done.stderr
    done = cli(run, "--harness", "gsm8k", "--limit", 1, HF_HOME=tmp_path / "cache")
    assert done.returncode == 5, done.stderr
    assert "could not be fetched" in done.stderr and "Traceback" not in done.stderr


@needs_harness
def test_the_likelihoods_of_the_harness_are_those_of_training(run):
    from lm_eval.api.instance import Instance

    from tspin_mlx.evaluation.harness import _adapter
    from tspin_mlx.models.of_run import load_run, use_policy
    from tspin_mlx.scoring.logprobs import Scorer, score

    policy = load_run(run, run.plan().recipe)
    use_policy(policy, run, 1)
    adapter = _adapter(policy, "chat", 256, 4, None)
    prompts = run.prompts().validation
    requests = []
    for i, prompt in enumerate(prompts):
        turns = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.text}]
        context = adapter.apply_chat_template(turns)
        requests.append(Instance("loglikelihood", {}, (context, f"{prompt.annotated.text}<|im_end|>"), i))
    found = [logp for logp, _ in adapter.loglikelihood(requests)]
    logps = score(Scorer(policy.model), [(prompt, (prompt.annotated,)) for prompt in prompts])
    assert found == pytest.approx(logps[0].tolist(), rel=1e-4)
