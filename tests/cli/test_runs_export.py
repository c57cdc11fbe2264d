"""`runs export`: a run's metrics as SVG, CSV and JSON."""

import json

from tests.support.command_line import cli


def test_a_run_is_exported_as_a_picture_and_as_numbers(make_run, tmp_path):
    run = make_run("waves")
    done = cli("runs", "export", "waves", "--svg", "curves.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.svg").read_text().startswith("<svg") and done.stdout == "curves.svg\n"
    rows = cli("runs", "export", "waves", "--csv", cwd=tmp_path).stdout.splitlines()
    assert rows[0].startswith("phase,iteration,step,loss") and len(rows) == 1 + 3 * 12
    assert rows[1].startswith("initial/adapter,,1,2.0,")
    numbers = json.loads(cli("runs", "export", "waves", "--json", cwd=tmp_path).stdout)
    assert len(numbers["steps"]["loss"]) == 36 and numbers["steps"]["advantage/current"][0] is None
    assert numbers["best"] == "iterations/001"
    assert cli("runs", "export", "waves", "numbers.json", cwd=tmp_path).returncode == 0
    assert (tmp_path / "numbers.json").exists()
    for words, said in ((["--svg", "--csv"], "one of"), ([], "one of")):
        wrong = cli("runs", "export", "waves", *words, cwd=tmp_path)
        assert wrong.returncode == 2 and said in wrong.stderr
    run.events_path.unlink()
    assert "no optimiser step" in cli("runs", "export", "waves", "--csv", cwd=tmp_path).stderr
