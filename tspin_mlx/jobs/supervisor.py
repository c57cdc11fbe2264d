"""Supervisor: runs the engine in its own process, and restarts it once with half the batch sizes if memory ran out.

It does not import MLX, so its process is small and survives when the engine is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from ..base.errors import StorageError
from ..base.machine import NOTIFY, SHARED_BY, awake, notify
from ..base.stop import EXIT_CODES
from ..runs.event_log import EventLog, EventTail, log_size
from ..runs.lock import RunLock
from ..runs.run import Run
from ..view.events import LAST
from .exit_status import WATCHDOG, ExitStatus, classify

#: Makes Apple's driver let the GPU continue while the display waits
#: (https://github.com/ml-explore/mlx/issues/3267); set only after the GPU watchdog has ended a run.
_PATIENT_GPU = "AGX_RELAX_CDM_CTXSTORE_TIMEOUT"

_TAIL = 1 << 14  # bytes of the engine's log to read


def start(run: Run, lock: RunLock, *, trusted: bool, shared_by: int | None = None) -> subprocess.Popen[bytes]:
    """Start a supervisor that outlives this process and its terminal.

    Args:
        lock: held by this process; the supervisor and the engine take it over.
        trusted: whether the model's own Python code may run.
        shared_by: number of engines of a sweep that share the machine's memory; they send no notifications.
    """
    shared = {} if shared_by is None else {SHARED_BY: str(shared_by), NOTIFY: "0"}
    command = _python(
        "tspin_mlx.jobs.supervisor", str(run.path.resolve()), "--lock", str(lock.descriptor), trusted=trusted
    )
    with run.engine_log.open("ab") as log, _blocked(EXIT_CODES):  # until it handles signals
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **shared},
            pass_fds=[lock.descriptor],
        )
    lock.name_worker(process.pid)
    lock.close()
    return process


class Supervisor:
    """Watches the engine of one run.

    Args:
        lock: of the run, inherited from the process that started this one.
    """

    def __init__(self, run: Run, lock: RunLock, *, trusted: bool) -> None:
        self._run, self._lock, self._trusted = run, lock, trusted
        self._engine: subprocess.Popen[bytes] | None = None
        self._stopped_by: int | None = None
        self._begin = 0  # offset of the engine's events in the log

    def supervise(self) -> int:
        """Run the engine until it ends, and return the exit code."""
        for number in EXIT_CODES:
            signal.signal(number, self._forward)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_CODES)
        if any(decision.reason == WATCHDOG for decision in self._run.decisions()):
            os.environ.setdefault(_PATIENT_GPU, "1")
        status = self._run_engine()
        if status.restartable and not self._stop_requested() and self._halve(status):
            if status.kind == WATCHDOG:
                os.environ.setdefault(_PATIENT_GPU, "1")
            status = self._run_engine()
        if status.kind in ("stopped", "killed"):
            self._emit_last("run_stopped", message=status.message, exit_code=status.exit_code)
        elif status.message:
            self._emit_last("run_failed", message=status.message, hint=status.hint, exit_code=status.exit_code)
        return status.exit_code

    def _run_engine(self) -> ExitStatus:
        log, self._begin = self._run.engine_log, log_size(self._run.events_path)
        begin = log.stat().st_size
        command = _python("tspin_mlx.engine.worker", str(self._run.path), trusted=self._trusted)
        with _blocked(EXIT_CODES):  # all threads of the engine must have them blocked, see tspin_mlx.base.stop.listen
            self._engine = subprocess.Popen(command, pass_fds=[self._lock.descriptor])
        self._lock.name_worker(self._engine.pid)
        if self._stopped_by is not None:
            self._engine.send_signal(self._stopped_by)
        with awake(self._engine.pid):
            returncode = self._wait(self._engine)
        self._lock.name_worker(os.getpid())  # `stop` must not signal a process that has ended
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - _TAIL))
            return classify(returncode, file.read().decode(errors="replace"))

    def _wait(self, engine: subprocess.Popen[bytes]) -> int:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return engine.wait(timeout=1.0)  # signal handlers run in between

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._stopped_by = number
        if self._engine is not None and self._engine.poll() is None:
            self._engine.send_signal(number)

    def _halve(self, status: ExitStatus) -> bool:
        """Halve the batch sizes; False if they cannot be halved further."""
        before = self._run.plan().sizes
        sizes = before.halved()
        if sizes == before:
            return False
        self._run.decide(status.kind, sizes)
        self._emit("restarted", reason=status.kind, **asdict(sizes))
        return True

    def _stop_requested(self) -> bool:
        """Return whether a stop was requested, here or directly from the engine."""
        return self._stopped_by is not None or "stopping" in self._event_kinds()

    def _event_kinds(self) -> list[str]:
        """List the kinds of the engine's events since it was started."""
        return [event["kind"] for event in EventTail(self._run.events_path, self._begin).read()]

    def _emit_last(self, kind: str, **fields: object) -> None:
        """Emit the final event if the engine could not."""
        if self._event_kinds()[-1:] not in [[last] for last in LAST]:
            self._emit(kind, **fields)

    def _emit(self, kind: str, **fields: object) -> None:
        with contextlib.suppress(StorageError):
            EventLog(self._run.events_path).emit(kind, **fields)


@contextlib.contextmanager
def _blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _python(module: str, *arguments: str, trusted: bool) -> list[str]:
    """Build a command with this Python; -P keeps modules of the current folder out."""
    flags = ["--trust-remote-code"] if trusted else []
    return [sys.executable, "-P", "-X", "faulthandler", "-m", module, *arguments, *flags]


def main() -> None:
    """Run ``python -m tspin_mlx.jobs.supervisor RUN --lock DESCRIPTOR [--trust-remote-code]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--trust-remote-code", action="store_true")
    arguments = parser.parse_args()
    os.set_inheritable(arguments.lock, False)
    run, lock, begun = Run(arguments.run), RunLock(arguments.lock), time.monotonic()
    code = Supervisor(run, lock, trusted=arguments.trust_remote_code).supervise()
    lock.close()
    if code not in EXIT_CODES.values():
        notify(f"{run.name} {'failed' if code else 'is finished'}", time.monotonic() - begun)
    sys.exit(code)


if __name__ == "__main__":
    main()
