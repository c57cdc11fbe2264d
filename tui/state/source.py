"""Where a screen gets its run from: followed while it grows, or played again. No widget in here."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Literal

from tspin_mlx.base.errors import DamagedError
from tspin_mlx.runs.event_log import EventTail, read_events
from tspin_mlx.runs.lock import is_held
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.state import State, state_of
from tspin_mlx.view.events import Event
from tspin_mlx.view.run_view import RunView, reduce_all

Clock = Callable[[], float]

_CHUNK = 1 << 23  # bytes of a log that are taken in at once, so that a long one can be seen growing
_STATE_EVERY_S = 1.0
_LONGEST_PAUSE_S = 5.0  # between two events that are played again
_REPLAY_S = 30.0  # how long a replay takes at first


class LiveSource:
    """Follows a run's log.

    Args:
        run: running, finished, crashed, or a copy from elsewhere.
        clock: seconds since 1970.

    Attributes:
        view: what was read so far.
        state: of the run, looked at about once a second.
        caught_up: whether the end of the log was reached at the last look.
    """

    def __init__(self, run: Run, clock: Clock = time.time) -> None:
        self.run, self._clock = run, clock
        self._tail = EventTail(run.events_path)
        self.view = RunView(name=run.name, evaluations=_known_evaluations(run), phases=len(run.outline.phases))
        self.state: State = state_of(run, clock())
        self.caught_up = False
        self._looked = clock()

    def poll(self) -> bool:
        """Take in what has come, a part of it if that is much; whether anything has changed."""
        events = self._tail.read(_CHUNK)
        self.caught_up = not events
        self.view = reduce_all(self.view, events)
        return self._look() or bool(events)

    def _look(self) -> bool:
        """Look at the run's state, more often than now and then only when it may have ended."""
        now = self._clock()
        if now - self._looked < _STATE_EVERY_S:
            return False
        before, self._looked = self.state, now
        # The log is asked for its silence only while somebody holds the run.
        self.state = state_of(self.run, now) if is_held(self.run.path) or before in ("running", "stalled") else before
        return self.state != before


class ReplaySource:
    """Plays the log of a run again.

    Args:
        run: with a log.
        clock: seconds of any beginning.

    Attributes:
        view: the run at the moment that is played.
        speed: how much faster than it was.
    """

    state: Literal["replayed"] = "replayed"

    def __init__(self, run: Run, clock: Clock = time.monotonic) -> None:
        self.run, self._clock = run, clock
        self._events = list(read_events(run.events_path))
        self._times = _without_pauses(self._events)
        self.speed = 2.0 ** round(math.log2(max(1.0, self.duration_s / _REPLAY_S)))
        self.view = RunView(name=run.name, phases=len(run.outline.phases))
        self._done, self._at, self._looked = 0, 0.0, clock()

    @property
    def duration_s(self) -> float:
        """How long it took, without long pauses."""
        return self._times[-1] if self._times else 0.0

    @property
    def caught_up(self) -> bool:
        """Whether all was played."""
        return self._done == len(self._events)

    def poll(self) -> bool:
        """Go on to where the replay should be by now; whether anything has changed."""
        now = self._clock()
        self._at += (now - self._looked) * self.speed
        self._looked = now
        before, self._done = self._done, bisect_right(self._times, self._at)
        self.view = reduce_all(self.view, self._events[before : self._done])
        return self._done != before

    def faster(self, factor: float) -> None:
        """Change the speed, within 1 and 4096 times."""
        self.poll()
        self.speed = min(4096.0, max(1.0, self.speed * factor))


Source = LiveSource | ReplaySource


def _without_pauses(events: list[Event]) -> list[float]:
    """When each event comes, from 0, with long silences shortened."""
    times, at = [], 0.0
    for before, event in zip([*events[:1], *events], events, strict=False):
        at += min(_LONGEST_PAUSE_S, max(0.0, event["time"] - before["time"]))
        times.append(at)
    return times


def _known_evaluations(run: Run) -> dict[str, dict[str, float]]:
    """What is on disk: a fork takes results over that its own log does not tell of."""
    try:
        return {policy: content["metrics"] for policy, content in run.evaluations().items()}
    except DamagedError:
        return {}
