"""Runs by their name or their path."""

import pytest

from tspin_mlx.base.errors import UsageError
from tspin_mlx.runs.run import find_run, run_paths


def test_a_run_is_found_by_its_name_or_its_path(made, monkeypatch):
    folder = made.path.parent
    assert find_run("quick", folder).path == made.path
    assert find_run(str(made.path), folder / "elsewhere").path == made.path
    assert find_run(f"{made.path}/", folder / "elsewhere").path == made.path
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_run("~/runs/quick", folder / "elsewhere").path == made.path
    monkeypatch.chdir(folder)
    assert find_run("./quick", folder / "elsewhere").name == "quick"


@pytest.mark.parametrize("name", ["", ".", "..", "link", "~nobody-of-this-name/run", "x" * 300, "./" + "x" * 300])
def test_a_name_that_is_none_or_leads_elsewhere_is_refused(made, name):
    (made.path.parent / "link").symlink_to("quick")
    with pytest.raises(UsageError) as caught:
        find_run(name, made.path.parent)
    assert caught.value.message == f"{name!r} is not the name or path of a run"
    assert "runs ls" in caught.value.hint


@pytest.mark.parametrize("name", ["none", "a\0b", "\ud800", "none/quick", "~/no/such"])
def test_a_run_that_is_not_there_is_not_found(made, name):
    with pytest.raises(UsageError, match="no such run"):
        find_run(name, made.path.parent)


def test_runs_are_listed_by_name_without_what_is_unfinished_or_something_else(tmp_path):
    for name in ("b", "a", "c", ".d.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "file").write_text("x")
    assert [path.name for path in run_paths(tmp_path)] == ["a", "b", "c"]
    assert run_paths(tmp_path / "none") == []


def test_a_run_that_is_nearly_the_name_of_another_is_suggested(made):
    with pytest.raises(UsageError, match="quik: no such run") as caught:
        find_run("quik", made.path.parent)
    assert caught.value.hint == "did you mean quick?"
