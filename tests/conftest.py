"""Fixtures that any test may use; the helpers that they use are in tests/support."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MLX_ENABLE_TF32", "0")  # where a GPU has it, float32 would not be float32

import tspin_mlx  # noqa: F401  before any test imports MLX: on a Linux CPU it loads OpenBLAS, which has to come first
from tests.support.fake_run import fake_run
from tests.support.small_runs import make_small_run
from tests.support.tiny_model import save_tiny_model

# No property fails because the machine is busy.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

#: The files that take longest begin first, so that none is still at work when all others are done.
LONGEST_FIRST = (
    "models/test_builtin_model.py",
    "engine/test_crash.py",
    "jobs/test_processes.py",
    "cli/test_run.py",
    "sweeps/test_runner.py",
    "jobs/test_supervisor.py",
    "tui/test_theme.py",
    "cli/test_chat.py",
    "test_api.py",
    "engine/test_resume.py",
    "engine/test_whole_run.py",
    "jobs/test_stop.py",
    "jobs/test_terminal.py",
    "jobs/test_doctor.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist keeps our order, not that of the number of tests per file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    rank = {tests / name: i for i, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def nobodys_settings(tmp_path_factory: pytest.TempPathFactory):
    """The keys and colours of whoever runs the tests change none of them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patched.delenv("NO_COLOR", raising=False)
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of two layers whose tokens are bytes; loads with mlx-lm like any other model."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    save_tiny_model(folder)
    return folder


@pytest.fixture
def same_as_kept():
    """Compares a text with a file in tests/snapshots; with UPDATE_SNAPSHOTS=1 the file is written instead."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "snapshots" / name
        if os.environ.get("UPDATE_SNAPSHOTS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} looks different; UPDATE_SNAPSHOTS=1 accepts it"

    return compare


@pytest.fixture(scope="session")
def small_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the tiny llama. Whoever writes into it works on a copy."""
    return make_small_run(tiny_model, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def tiny_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with adapters on all layers and a second metric; not to be changed."""
    changes = ["lora.layers=0", "evaluation.metrics=[exact_match, json_valid]", "objective.nll_weight=0.5"]
    return make_small_run(tiny_model, tmp_path_factory.mktemp("tiny"), *changes, "training.learning_rate=0.02")


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Makes runs as the engine leaves them, without any model: ``make_run(name, until=..., hostile=...)``."""
    monkeypatch.chdir(tmp_path)

    def make(name: str = "waves", **options):
        return fake_run(tmp_path / "runs" / name, **options)

    return make


@pytest.fixture
def done(make_run):
    """A finished run."""
    return make_run("done")


@pytest.fixture
def working(make_run):
    """A run in the middle of training, on which somebody works."""
    from tspin_mlx.runs.lock import RunLock

    run = make_run("working", until="iterations/001/adapter")
    lock = RunLock.acquire(run.path)
    yield run
    lock.close()
