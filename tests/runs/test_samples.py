"""What a run was trained on, with what training saw of it."""

import json
import shutil

import pytest

from tests.support.command_line import cli, cli_here
from tspin_mlx.models.of_run import load_run, use_policy
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.samples import iterations_of, ordered, read_triplets, trained_on
from tspin_mlx.scoring.logprobs import Scorer, score


@pytest.fixture(scope="module")
def run(tiny_run):
    return Run(tiny_run)


@pytest.fixture
def samples(capsys):
    """The command on a run."""

    def call(run, *args, columns=100):
        return cli_here(capsys, "samples", run.path, *args, COLUMNS=columns)

    return call


def test_every_triplet_has_a_score(run):
    assert iterations_of(run) == [0, 1]
    first, second = trained_on(run, 0), trained_on(run, 1)
    assert [s.prompt for s in first] == list(run.prompts().train) == [s.prompt for s in second]
    assert all(s.current is not None and s.historical is None for s in first)
    assert all(s.current is not None and s.historical is not None for s in second)


def test_scores_are_those_of_the_policy_that_trained(run):
    """Exactly so in the first batch of an iteration, before any update; then the policy moves on."""
    policy = load_run(run, run.plan().recipe)
    use_policy(policy, run, 0)
    samples, triplets = trained_on(run, 1), read_triplets(run, 1)
    logps = score(Scorer(policy.model), [(t.prompt, t.responses()) for t in triplets])
    close = 0
    for sample, expected in zip(samples, logps.T, strict=True):
        row = sample.to_row()
        found = [row["annotated_logp"], row["synthetic_logp"], row["proto_synthetic_logp"]]
        assert found == pytest.approx(expected.tolist(), abs=30)
        close += found == pytest.approx(expected.tolist(), rel=1e-4)
        assert row["current_advantage"] == found[0] - found[1]
        assert row["historical_advantage"] == found[1] - found[2]
    assert run.plan().recipe.training.batch_size <= close < len(samples)


def test_samples_are_ordered_by_an_advantage(run):
    for order in ("current", "historical"):
        values = [getattr(s, order) for s in ordered(trained_on(run, 1), order)]
        assert values == sorted(values) and len(set(values)) > 1
    first = trained_on(run, 0)  # none of which has a historical advantage
    assert ordered(first, "historical") == first == ordered(first, "file")


def test_the_command_shows_texts_and_advantages(run, samples):
    done = cli("samples", run.path, "--iteration", 1, "--sort", "current", "--count", 2)
    assert done.returncode == 0, done.stderr
    assert "Iteration 1 of small: 2 of 8 triplets, the smallest current advantage first" in done.stdout
    assert done.stdout.count("expert") == 2 and done.stdout.count("proto-synthetic") == 2
    assert "advantage  current" in done.stdout and "historical" in done.stdout
    assert "system: Be brief." in done.stdout
    rows = json.loads(samples(run, "--sort", "current", "--count", 3, "--json").stdout)
    assert rows == [s.to_row() for s in ordered(trained_on(run, 1), "current")[:3]]


def test_narrow_terminals_and_hostile_text(run, samples):
    out = samples(run, "--count", 8, columns=40).stdout
    assert all(len(line) <= 40 for line in out.splitlines())
    assert not {c for c in out if ord(c) < 32} - {"\n"}


def test_mistakes(run, samples):
    done = samples(run, "--iteration", 5)
    assert done.returncode == 2
    assert "no triplets of iteration 5" in done.stderr and "it has those of 0, 1" in done.stderr


def test_an_iteration_that_is_not_trained_yet_has_no_advantages(run, tmp_path, samples):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy, symlinks=True)
    (copy / "iterations/001/scores.jsonl").unlink()
    done = samples(Run(copy))
    assert done.returncode == 0, done.stderr
    assert "not trained yet" in done.stdout and "log π" not in done.stdout
