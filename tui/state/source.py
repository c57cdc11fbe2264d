"""Data sources of the run screen: the event log followed live, or replayed. No widgets."""

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

#: Bytes of a log that one poll reads at most, so that the screen shows a long log while it is being read.
CHUNK_BYTES = 1 << 23

_STATE_EVERY_S = 1.0
_MAX_PAUSE_S = 5.0  # between two events of a replay
_REPLAY_S = 30.0  # the initial speed is such that a replay takes about this long


class LiveSource:
    """Follows the event log of a run.

    Args:
        run: running, finished, crashed, or copied from another machine.
        clock: returns seconds since 1970.

    Attributes:
        view: the run as far as its log was read.
        state: of the run, checked about once a second.
        caught_up: whether the last poll reached the end of the log.
    """

    def __init__(self, run: Run, clock: Clock = time.time) -> None:
        self.run, self._clock = run, clock
        self._tail = EventTail(run.events_path)
        self.view = RunView(name=run.name, evaluations=_known_evaluations(run), phases=len(run.outline.phases))
        self.state: State = state_of(run, clock())
        self.caught_up = False
        self._checked = clock()

    def poll(self) -> bool:
        """Read new events, at most a chunk of them; return whether anything has changed."""
        events = self._tail.read(CHUNK_BYTES)
        self.caught_up = not events
        self.view = reduce_all(self.view, events)
        return self._check_state() or bool(events)

    def _check_state(self) -> bool:
        """Update the state if the last check was long enough ago; return whether it has changed."""
        now = self._clock()
        if now - self._checked < _STATE_EVERY_S:
            return False
        before, self._checked = self.state, now
        # A run that has ended changes only if a process takes it up again; until then its log need not be read.
        self.state = state_of(self.run, now) if is_held(self.run.path) or before in ("running", "stalled") else before
        return self.state != before


class ReplaySource:
    """Replays the event log of a run.

    Args:
        run: a run with an event log.
        clock: returns seconds, from any starting point.

    Attributes:
        view: the run at the current moment of the replay.
        speed: relative to the original run.
    """

    state: Literal["replayed"] = "replayed"

    def __init__(self, run: Run, clock: Clock = time.monotonic) -> None:
        self.run, self._clock = run, clock
        self._events = list(read_events(run.events_path))
        self._times = _times_without_pauses(self._events)
        self.speed = 2.0 ** round(math.log2(max(1.0, self.duration_s / _REPLAY_S)))
        self.view = RunView(name=run.name, phases=len(run.outline.phases))
        self._played, self._position_s, self._polled = 0, 0.0, clock()

    @property
    def duration_s(self) -> float:
        """The duration of the run, with long pauses shortened."""
        return self._times[-1] if self._times else 0.0

    @property
    def caught_up(self) -> bool:
        """Whether all events were replayed."""
        return self._played == len(self._events)

    def poll(self) -> bool:
        """Advance to where the replay should be by now; return whether anything has changed."""
        now = self._clock()
        self._position_s += (now - self._polled) * self.speed
        self._polled = now
        before, self._played = self._played, bisect_right(self._times, self._position_s)
        self.view = reduce_all(self.view, self._events[before : self._played])
        return self._played != before

    def change_speed(self, factor: float) -> None:
        """Multiply the speed, within 1 and 4096 times the original."""
        self.poll()
        self.speed = min(4096.0, max(1.0, self.speed * factor))


Source = LiveSource | ReplaySource


def _times_without_pauses(events: list[Event]) -> list[float]:
    """Return the time of each event in seconds from the first, with long pauses shortened."""
    times, at = [], 0.0
    for before, event in zip([*events[:1], *events], events, strict=False):
        at += min(_MAX_PAUSE_S, max(0.0, event["time"] - before["time"]))
        times.append(at)
    return times


def _known_evaluations(run: Run) -> dict[str, dict[str, float]]:
    """Read the evaluations on disk: a fork inherits results that are not in its own log."""
    try:
        return {policy: content["metrics"] for policy, content in run.evaluations().items()}
    except DamagedError:
        return {}
