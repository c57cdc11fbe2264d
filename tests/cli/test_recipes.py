"""`recipes`: list, show, copy and validate."""

from tests.support.command_line import cli


def test_recipes_can_be_listed_shown_copied_and_validated(tmp_path):
    assert "quickstart" in cli("recipes", "ls", cwd=tmp_path).stdout
    assert "household" in cli("recipes", "show", "quickstart", cwd=tmp_path).stdout
    copied = cli("recipes", "cp", "quickstart", "mine.yaml", cwd=tmp_path)
    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "data/household/train.jsonl").is_file()
    assert cli("recipes", "validate", "mine.yaml", cwd=tmp_path).stdout == "mine is valid\n"
    assert cli("plan", "mine.yaml", cwd=tmp_path).returncode == 0
    assert cli("recipes", "cp", "starter", cwd=tmp_path).stdout == "starter.yaml\n"
    again = cli("recipes", "cp", "quickstart", "mine.yaml", cwd=tmp_path)
    assert again.returncode == 2 and "exists already" in again.stderr
    nowhere = cli("recipes", "cp", "starter", "mine.yaml/x.yaml", cwd=tmp_path)
    assert nowhere.returncode == 7 and "could not be written: " in nowhere.stderr
