"""Checks of ``tspin-mlx doctor``: Python, MLX, device, memory, disk, model, Hub login, and determinism."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Literal

from ..base import filesystem
from ..base.errors import TspinError, UsageError
from ..base.machine import device_name, has_openblas, memory_budget, memory_bytes, on_cpu
from ..models.builtin import ALIAS, builtin_path
from ..recipe.catalog import find_recipe, parse_source
from ..runs.event_log import read_events, view_of
from ..runs.lock import holder
from ..runs.run import Run
from .control import outcome, request_stop, resume
from .launch import prepare

_MACOS = (14, 0)  # minimum of MLX's wheels
_FEW_BYTES = 4e9

#: Settings of a run that is just long enough to be killed twice.
_SMALL_RUN = (
    "data.train_limit=12", "data.validation_limit=2", "data.test=null", "generation.prompts=6",
    "generation.max_tokens=16", "training.iterations=2", "training.batch_size=2", "run.checkpoint_seconds=0",
)  # fmt: skip

#: Phases in which the second run is killed, each after its second step.
_KILLED_IN = ("initial/adapter", "iterations/001/adapter")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        about: what was checked.
        verdict: ``note`` is worth knowing; with a ``problem``, runs fail or are not reproducible.
        text: the result in words.
        hint: what to do.
    """

    about: str
    verdict: Literal["ok", "note", "problem"]
    text: str
    hint: str | None = None


def examine(runs: Path) -> Iterator[Finding]:
    """Run all checks that need neither a model nor the network.

    Args:
        runs: folder of the runs.
    """
    yield _python()
    mlx = _mlx()
    yield mlx
    if mlx.verdict != "problem":
        yield _device()
        yield Finding(
            "memory", "ok", f"{memory_bytes() / 1e9:.1f} GB, of which a run may use {memory_budget() / 1e9:.1f} GB"
        )
    yield _disk(runs)
    yield _model()
    yield _hub()


def _python() -> Finding:
    text = f"{platform.python_version()} for {platform.machine()}"
    if sys.platform == "darwin":
        system = platform.mac_ver()[0]
        text += f", macOS {system}"
        if platform.machine() != "arm64":
            hint = "install Python for Apple silicon, remove .venv, and run scripts/install again"
            return Finding("python", "problem", f"{text}: MLX needs a Python for arm64", hint)
        if tuple(int(part) for part in system.split(".")[:2]) < _MACOS:
            return Finding("python", "problem", f"{text}: MLX needs macOS {_MACOS[0]} or newer")
    return Finding("python", "ok", text)


def _mlx() -> Finding:
    try:
        import mlx.core  # noqa: F401

        versions = ", ".join(f"{name} {version(name)}" for name in ("mlx", "mlx-lm", "tspin-mlx"))
    except (ImportError, PackageNotFoundError) as error:
        return Finding("mlx", "problem", f"cannot be used: {error}", "run scripts/install")
    return Finding("mlx", "ok", versions)


def _device() -> Finding:
    name = device_name()
    if not on_cpu():
        return Finding("device", "ok", name)
    if sys.platform == "darwin":
        return Finding("device", "problem", f"{name}: Metal is not available", "is this a virtual machine?")
    if not has_openblas():
        hint = "install it (Debian, Ubuntu: sudo apt-get install libopenblas0)"
        return Finding("device", "problem", f"{name}, without OpenBLAS: about fifty times slower", hint)
    return Finding("device", "ok", f"{name}, float32 with OpenBLAS")


def _disk(runs: Path) -> Finding:
    place = filesystem.existing(runs.absolute())
    free = filesystem.free_bytes(place)
    text = f"{free / 1e9:.1f} GB are free for runs in {runs}"
    if not os.access(place, os.W_OK):
        return Finding("disk", "problem", f"{place} cannot be written to", "work in another folder, or use --folder")
    return Finding("disk", "ok" if free > _FEW_BYTES else "note", text)


def _model() -> Finding:
    place = builtin_path()
    if place.exists():
        return Finding("model", "ok", f"{ALIAS} is in {place}")
    return Finding("model", "note", f"{ALIAS} is not here yet: the first run downloads it (93 MB)")


def _hub() -> Finding:
    from huggingface_hub import constants, get_token

    offline = ", and HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
    if get_token() is None:
        text = f"not logged in{offline}: needed only for push and for gated models"
        return Finding("hub", "note", text, "hf auth login")
    return Finding("hub", "ok", f"there is a token{offline}")


def repeats_itself(folder: Path, report: Callable[[str], None], model: str = ALIAS) -> Finding:
    """Check determinism: train twice for a few steps, kill and resume the second run, and compare all files.

    Args:
        folder: for the two runs.
        report: called with each next stage, in words.
        model: see :class:`tspin_mlx.recipe.schema.ModelSection`.

    Raises:
        TspinError: a run failed for another reason.
    """
    report("training for a few steps, without interruption")
    first = _small_run(model, folder, "undisturbed")
    _finish(first)
    second = _small_run(model, folder, "killed")
    kills = 0
    for phase in _KILLED_IN:
        report(f"the same again, with kill -9 in {phase}")
        kills += _killed_in(second, phase)
    report("resuming to the end")
    _finish(second)
    files, again = _files(first), _files(second)
    differing = sorted(name for name in files.keys() | again.keys() if files.get(name) != again.get(name))
    speed = fmean(event["tokens_per_s"] for event in read_events(first.events_path) if event["kind"] == "step")
    runs = f"files of two runs, one of them killed {kills} times"
    speed_text = f"trained at {speed:.0f} tokens per second"
    if differing:
        text = f"{len(differing)} of {len(files)} {runs}, differ, such as {differing[0]}; {speed_text}"
        hint = f"please report it with the content of {folder}; runs still resume, but not bit for bit"
        return Finding("determinism", "problem", text, hint)
    text = f"{len(files)} {runs}, are identical; {speed_text}"
    if warnings := view_of(first.events_path).warnings:
        return Finding("determinism", "note", f"{text}; but {warnings[0]}")
    return Finding("determinism", "ok", text)


def _small_run(model: str, folder: Path, name: str) -> Run:
    source = find_recipe("quickstart")
    named = (f"model.path={model}", f"run.folder={folder}", f"run.name={name}")
    return prepare(parse_source(source, [*_SMALL_RUN, *named]), source).run


def _finish(run: Run) -> None:
    """Resume a run and wait until it is finished."""
    with _engine(run) as engine:
        engine.wait()
    _checked_outcome(run, engine.returncode, "finished")


def _killed_in(run: Run, phase: str) -> bool:
    """Kill a run in a phase; False if it finished first."""
    with _engine(run) as engine:
        while engine.poll() is None:
            steps = [e for e in read_events(run.events_path) if e["kind"] == "step" and e["phase"] == phase]
            worker = holder(run.path)
            if len(steps) >= 2 and worker is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker["pid"], signal.SIGKILL)
                break
            time.sleep(0.02)
        engine.wait()
    return _checked_outcome(run, engine.returncode, "finished", "stopped") == "stopped"


@contextlib.contextmanager
def _engine(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    engine = resume(run)
    try:
        yield engine
    except BaseException:  # Ctrl-C does not reach the engine, which has its own session
        with contextlib.suppress(UsageError):
            request_stop(run, "now")
        raise


def _checked_outcome(run: Run, returncode: int, *expected: str) -> str:
    """Return a run's outcome, and raise an error if it is not one of the expected ones."""
    events = list(read_events(run.events_path))
    end = outcome(run, events[-1] if events else None, returncode)
    if end.what not in expected:
        raise TspinError(f"{run.path}: {end.message}", hint=f"its log is {run.engine_log}")
    return end.what


def _files(run: Run) -> dict[str, str]:
    """Return the sha256 of every file of every phase."""
    run.verify()
    targets = [phase.target for phase in run.outline.phases]
    return {file: digest for target in targets for file, digest in run.store.digests(target).items()}
