"""What is shown of a run that has come to something, or is about to."""

from tests.support.command_line import cli
from tspin_mlx.runs.outcome import result_of
from tspin_mlx.runs.run import Run


def test_measures_are_shown_though_the_model_is_gone(make_run, tmp_path):
    """Only the command for mlx-lm needs its folder."""
    make_run("waves")
    done = cli("runs", "show", "waves", cwd=tmp_path)
    assert "★ iteration 1" in done.stdout and "Best by nll" in done.stdout and "tspin-mlx chat waves" in done.stdout
    assert "mlx_lm" not in done.stdout and done.stderr.startswith("error: ")


def test_before_the_end_there_are_measures_and_nothing_else(make_run, tmp_path):
    result = result_of(make_run("half", until="iterations/001/adapter"))
    assert list(result.tables["Validation (3 examples)"]) == ["base model", "after warm-up", "iteration 0"]
    assert (result.best, result.verdict, result.answers) == (None, "", ())


def test_a_result_has_the_first_answers_before_and_after(small_run):
    result = result_of(Run(small_run), 2)
    assert list(result.tables) == ["Validation (4 examples)", "Test (3 examples)"]
    assert result.best in result.tables["Test (3 examples)"]
    assert [(answers.prompt, answers.expert) for answers in result.answers] == [("test 0", "[0]"), ("test 1", "[1]")]
    kept = Run(small_run).test()
    assert kept and [answers.before for answers in result.answers] == [r["text"] for r in kept["base"]["responses"]][:2]
