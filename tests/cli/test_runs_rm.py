"""`runs rm`: asked first, whole or not at all, and never under somebody who works on it."""

import pytest

from tests.support.command_line import cli
from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import BusyError, StorageError
from tspin_mlx.jobs import control
from tspin_mlx.runs.lock import RunLock


@pytest.fixture
def runs(tmp_path, make_run):
    """A folder with two runs, `one` and `two`."""
    for name in ("one", "two"):
        make_run(name)
    return tmp_path


def names(folder):
    return sorted(path.name for path in (folder / "runs").iterdir())


def test_what_is_confirmed_is_gone_and_the_rest_stays(runs):
    assert names(runs) == ["one", "two"]
    done = cli("runs", "rm", "one", "--yes", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("runs/one  ") and names(runs) == ["two"]


def test_nothing_goes_unless_somebody_says_yes(runs):
    done = cli("runs", "rm", "one", cwd=runs)
    assert done.returncode == 2 and "--yes says it" in done.stderr and names(runs) == ["one", "two"]


@pytest.mark.parametrize(("name", "says"), [("ones", "did you mean one?"), ("..", "not the name"), ("runs/two", "")])
def test_if_one_is_no_run_none_is_removed(runs, name, says):
    done = cli("runs", "rm", "one", name, "--yes", cwd=runs)
    assert says in done.stderr
    assert (done.returncode, names(runs)) == ((2, ["one", "two"]) if says else (0, []))


def test_a_damaged_run_can_be_removed(runs):
    (runs / "runs/one/run.json").write_text("{")
    done = cli("runs", "rm", "one", "--yes", cwd=runs)
    assert done.returncode == 0 and names(runs) == ["two"]


def test_a_run_that_is_worked_on_stays(runs):
    lock = RunLock.acquire(runs / "runs/one")
    done = cli("runs", "rm", "one", "--yes", cwd=runs)
    assert done.returncode == 8 and "is in use by" in done.stderr
    with pytest.raises(BusyError):
        control.remove(runs / "runs/one")
    lock.close()
    assert names(runs) == ["one", "two"]


def test_a_run_whose_removal_is_cut_short_is_gone_for_whoever_looks(runs, monkeypatch):
    class Failing(filesystem.Disk):
        def remove(self, path):
            if path.exists():
                raise OSError(5, "Input/output error")

    monkeypatch.setattr(filesystem, "disk", Failing())
    with pytest.raises(StorageError):
        control.remove(runs / "runs/one")
    assert names(runs) == [".one.partial", "two"]
    monkeypatch.undo()
    assert "one" not in cli("runs", "ls", cwd=runs).stdout
