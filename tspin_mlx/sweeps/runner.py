"""Run a sweep: start its runs, a few at a time, in an order that lets them reuse shared phases."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Literal

from ..base import filesystem
from ..base.errors import BusyError, TspinError, UsageError
from ..jobs.control import outcome, request_stop, resume
from ..jobs.launch import make
from ..runs.event_log import EventTail, log_size
from ..runs.lock import RunLock, is_held, who_holds
from ..runs.run import Run
from .members import Member

#: What can happen to a run. ``joined``: another process is working on it, and this one waits until it ends.
What = Literal["started", "resumed", "joined", "finished", "stopped", "failed"]

_PAUSE_S = 0.1


@dataclass(frozen=True)
class Change:
    """A change in the state of a run.

    Attributes:
        member: the run.
        what: happened.
        elapsed_s: seconds since this process started it.
        detail: why it failed, or what it reused.
        hint: the next step after a failure.
        exit_code: of a run that ended.
    """

    member: Member
    what: What
    elapsed_s: float = 0.0
    detail: str = ""
    hint: str | None = None
    exit_code: int = 0


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the sweep whose runs are in ``folder`` for this process within the block.

    Raises:
        BusyError: another process is running the sweep.
        StorageError: the folder cannot be created or locked.
    """
    filesystem.make_folder(folder)
    try:
        lock = RunLock.acquire(folder)
    except BusyError:
        raise BusyError(
            f"the sweep in {folder} is in use by {who_holds(folder)}", hint="wait for it, or press Ctrl-C there"
        ) from None
    try:
        yield
    finally:
        lock.close()


class Sweeping:
    """Runs the members of a sweep.

    Args:
        members: all its runs.
        jobs: how many run at the same time.
        on_change: called with every change.
        trusted: whether a model's own Python code may run.
    """

    def __init__(
        self, members: Sequence[Member], jobs: int, on_change: Callable[[Change], None], *, trusted: bool = False
    ) -> None:
        self._members, self._jobs, self._on_change, self._trusted = members, jobs, on_change, trusted
        self._waiting = [member for member in members if not member.is_finished]
        self._working: dict[str, _Work] = {}

    def paths(self) -> list[Path]:
        """List the folders of the runs in progress."""
        return [work.run.path for work in list(self._working.values())]

    def work(self, stopping: Callable[[], bool]) -> None:
        """Work until every run has ended, or, once ``stopping`` returns True, those in progress have."""
        while True:
            for work in [work for work in self._working.values() if not work.is_alive()]:
                del self._working[work.member.name]
                self._on_change(_ending(work))
            while len(self._working) < self._jobs and not stopping() and (member := self._next()):
                self._waiting.remove(member)
                self._begin(member)
                if stopping() and member.name in self._working:  # requested while it started, so it missed the request
                    with contextlib.suppress(UsageError):  # it has already ended
                        request_stop(self._working[member.name].run, "step")
            if not self._working and (stopping() or not self._waiting):
                return
            time.sleep(_PAUSE_S)

    def _next(self) -> Member | None:
        """Return the first run whose first phases no other run is computing now."""
        return next((member for member in self._waiting if not self._should_wait(member)), None)

    def _should_wait(self, member: Member) -> bool:
        if member.exists:
            return False
        return any(set(member.beginning(work.member)) & set(work.run.pending()) for work in self._working.values())

    def _begin(self, member: Member) -> None:
        begun, offset = time.monotonic(), log_size(member.checked.path / "events.jsonl")
        try:
            what: What = "resumed" if member.exists else "started"
            if is_held(member.checked.path):
                what, run, engine, detail = "joined", member.run, None, ""
            else:
                run = make(member.checked, None if member.exists else self._origin(member)).run
                detail = _reused(run) if what == "started" else ""
                engine = resume(run, trusted=self._trusted, shared_by=self._jobs)
        except TspinError as error:
            self._on_change(Change(member, "failed", 0.0, error.message, error.hint, error.exit_code))
            return
        self._working[member.name] = _Work(member, run, engine, begun, offset)
        self._on_change(Change(member, what, detail=detail))

    def _origin(self, member: Member) -> Run | None:
        """Return the run that has done most of the phases shared with this one."""
        runs = [(other.run, member.shared(other)) for other in self._members if other.exists]
        done = [(sum(map(run.store.has, targets)), run) for run, targets in runs]
        count, best = max(done, key=lambda pair: pair[0], default=(0, None))
        return best if count else None


@dataclass(frozen=True)
class _Work:
    member: Member
    run: Run
    engine: Popen[bytes] | None
    begun: float
    offset: int  # size of the event log before the start, in bytes

    def is_alive(self) -> bool:
        if self.engine is None:
            return is_held(self.run.path)
        return self.engine.poll() is None


def _reused(run: Run) -> str:
    origin = run.about["forked_from"]
    if origin is None:
        return ""
    return f"{len(origin['reused'])} of {len(run.outline.phases)} phases from {origin['run']}"


def _ending(work: _Work) -> Change:
    events = EventTail(work.run.events_path, work.offset).read()
    end = outcome(work.run, events[-1] if events else None, work.engine.returncode if work.engine else 1)
    detail = end.message if end.what == "failed" else ""
    return Change(work.member, end.what, time.monotonic() - work.begun, detail, end.hint, end.exit_code)
