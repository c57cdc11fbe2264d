"""How a run is asked to stop, and where it listens."""

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


#: The exit code of a process that was asked to stop, by the signal that asked: as ``kill`` and the shell have it.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}

#: The same by its return code: it ended itself, or the signal ended it.
STOPPED = {code: code for code in EXIT_CODES.values()} | {-number: code for number, code in EXIT_CODES.items()}


class Stop:
    """A request to stop, looked at wherever it is safe to.

    Attributes:
        after: ``step`` (what is under way is finished or dropped) or ``iteration``; None while nobody asked.
        on_request: hears of a request at once, maybe in another thread.
    """

    def __init__(self) -> None:
        self.after: After | None = None
        self.on_request: Callable[[After], None] | None = None
        self._exit_code = EXIT_CODES[signal.SIGTERM]

    def request(self, after: After, exit_code: int = 143) -> None:
        """Ask. The sooner of two requests counts."""
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
        """Between steps, or where unfinished work may be dropped.

        Raises:
            Stopped: if that was asked for.
        """
        if self.now:
            raise Stopped(self._exit_code)

    def between(self, previous: HasIteration | None, following: HasIteration) -> None:
        """Between phases; the warm-up counts as an iteration, and what follows the last one is still done.

        Args:
            previous: the phase just done, None at the start.

        Raises:
            Stopped: if that was asked for.
        """
        new_iteration = previous is not None and following.iteration not in (None, previous.iteration)
        if self.now or (self.after == "iteration" and new_iteration):
            raise Stopped(self._exit_code)


def listen(stop: Stop) -> None:
    """Turn signals into requests, from now on.

    SIGINT and SIGTERM stop after the step, SIGUSR1 after the iteration; a second SIGINT or SIGTERM ends the process
    at once. A thread of its own waits for them: a handler would run only when the main thread comes back from MLX.
    All threads must have them blocked, those of a BLAS too, which start when this package is imported: so the
    process should be started with them blocked.
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
