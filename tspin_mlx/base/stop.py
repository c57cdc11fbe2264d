"""Graceful stop: signals (SIGINT, SIGTERM, SIGUSR1) become stop requests, which are checked between steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Literal, Protocol

from .errors import Stopped, StorageError

After = Literal["step", "iteration"]


class HasIteration(Protocol):
    """A phase, as far as stopping is concerned."""

    @property
    def iteration(self) -> int | None:
        """The self-play iteration it belongs to, None outside self-play."""
        ...


#: Exit code of a process that was asked to stop, by signal: as in the shell.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}

#: The same by return code of ``Popen``: the process exited by itself, or the signal killed it.
STOPPED = {code: code for code in EXIT_CODES.values()} | {-number: code for number, code in EXIT_CODES.items()}


class Stop:
    """A stop request, checked wherever it is safe to stop.

    Attributes:
        after: ``step`` (work in progress is finished or dropped) or ``iteration``; None without a request.
        on_request: called at once on a request, perhaps in another thread.
    """

    def __init__(self) -> None:
        self.after: After | None = None
        self.on_request: Callable[[After], None] | None = None
        self._exit_code = EXIT_CODES[signal.SIGTERM]

    def request(self, after: After, exit_code: int = 143) -> None:
        """Request a stop; the sooner of two requests counts."""
        if self.after == "step":
            return
        self.after, self._exit_code = after, exit_code
        if self.on_request is not None:
            with contextlib.suppress(StorageError):
                self.on_request(after)

    @property
    def now(self) -> bool:
        """Whether to stop at the next step."""
        return self.after == "step"

    def check(self) -> None:
        """Stop here if asked to; called between steps, or where unfinished work may be dropped.

        Raises:
            Stopped: a stop after the step was requested.
        """
        if self.now:
            raise Stopped(self._exit_code)

    def between(self, previous: HasIteration | None, following: HasIteration) -> None:
        """Stop between two phases if asked to; the warm-up is an iteration, phases after the last one are still done.

        Args:
            previous: the phase just done, None at the start.

        Raises:
            Stopped: a stop after the step or the iteration was requested.
        """
        new_iteration = previous is not None and following.iteration not in (None, previous.iteration)
        if self.now or (self.after == "iteration" and new_iteration):
            raise Stopped(self._exit_code)


def listen(stop: Stop) -> None:
    """Turn signals into stop requests, from now on.

    SIGINT and SIGTERM stop after the step, SIGUSR1 after the iteration; a second SIGINT or SIGTERM ends the process
    at once. A separate thread waits for them: a handler would run only when the main thread returns from MLX. All
    threads must have them blocked, including those of a BLAS, which start when this package is imported: so start
    the process with them blocked.
    """
    signals = set(EXIT_CODES)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_wait, args=(stop, signals), daemon=True, name="signals").start()


def _wait(stop: Stop, signals: set[signal.Signals]) -> None:
    while True:
        received = signal.Signals(signal.sigwait(signals))
        if received == signal.SIGUSR1:
            stop.request("iteration", EXIT_CODES[received])
        elif stop.now:
            os._exit(EXIT_CODES[received])
        else:
            stop.request("step", EXIT_CODES[received])
