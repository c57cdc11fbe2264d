"""Paths as people type them, anywhere: an impossible one is a message, and any other is taken as it is."""

from pathlib import Path

import pytest

from tests.support.command_line import cli_here
from tests.support.small_runs import jsonl
from tspin_mlx.base.errors import UsageError
from tspin_mlx.base.paths import typed, user_path
from tspin_mlx.recipe.catalog import find_recipe, located, parse_source
from tspin_mlx.runs.run import named_path

NOT_PATHS = ["~nosuchuser/x", "x" * 300, "a\0b"]


@pytest.mark.parametrize("text", NOT_PATHS)
def test_text_that_cannot_be_a_path_is_reported(text):
    with pytest.raises(UsageError, match="is not a valid path: "):
        user_path(text)
    with pytest.raises(UsageError, match="is not a valid path: "):
        find_recipe(f"{text}.yaml")
    with pytest.raises(UsageError, match="is not a valid path: "):
        located(f"data.train={text}", user_path("."))


@pytest.mark.parametrize("key", ["run.folder", "model.path", "data.train"])
def test_on_the_command_line_it_is_a_message_and_no_traceback(tmp_path, capsys, key):
    done = cli_here(capsys, "run", "quickstart", f"{key}=~nosuchuser/x", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "'~nosuchuser/x" in done.stderr and "is not a valid path" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["a: b.jsonl", "Project #2/t.jsonl", "- x.jsonl", "[x].jsonl", "100", "{p}.csv"])
def test_a_files_name_is_no_yaml(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    recipe = parse_source(find_recipe("quickstart"), [f"data.train={name}"])
    assert recipe.data.train == str(tmp_path / name)


def test_a_folder_with_a_comment_in_its_name(tmp_path, capsys):
    folder = tmp_path / "Project #2"
    folder.mkdir()
    rows = [{"prompt": f"say yes {i} times", "response": "yes"} for i in range(40)]
    (folder / "t.jsonl").write_text(jsonl(rows))
    done = cli_here(capsys, "plan", "starter", "data.train=t.jsonl", cwd=folder)
    assert done.returncode == 0 and "8 training, 32 validation" in done.stdout, done.stderr


@pytest.mark.parametrize("nothing", ["null", "~", ""])
def test_nothing_is_no_file(nothing):
    assert located(f"data.test={nothing}", user_path("/x")) == f"data.test={nothing}"


@pytest.mark.parametrize("path", ["x", "runs/x", "../x", "/x", "a/b/x"])
def test_a_path_that_a_message_prints_is_read_as_the_same_one(path):
    assert named_path(typed(Path(path)), Path("runs")) == Path(path)
