"""The optimiser steps of a run: an append-only sequence with columns, whose older copies do not change. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from .events import Event

if TYPE_CHECKING:
    import numpy as np

#: Fields of a ``step`` event that identify the step; all others are metrics.
_PLACE = frozenset(("time", "kind", "phase", "iteration", "step", "steps"))
_NUMBERS = frozenset((float, int, bool, type(None)))


class Steps(Sequence[Event]):
    """``step`` events in the order of the steps.

    Copies share their rows: appending takes constant time, and an older copy does not see later rows.
    """

    __slots__ = ("_count", "_shared")

    def __init__(self, rows: Sequence[Event] = ()) -> None:
        self._shared, self._count = _Shared(list(rows)), len(rows)

    def followed_by(self, row: Event, at: int) -> Steps:
        """Return the first ``at`` steps, followed by ``row``."""
        shared = self._shared
        if at != len(shared.rows):  # later rows are replaced, or another copy has appended rows here
            shared = _Shared(shared.rows[: min(at, self._count)])
        shared.rows.append(row)
        grown = Steps.__new__(Steps)
        grown._shared, grown._count = shared, len(shared.rows)
        return grown

    def followed_by_all(self, rows: Sequence[Event]) -> Steps:
        """Return these steps, followed by ``rows``."""
        if not rows:
            return self
        grown = self.followed_by(rows[0], self._count)
        grown._shared.rows.extend(rows[1:])
        grown._count += len(rows) - 1
        return grown

    def column(self, name: str) -> np.ndarray:
        """Return one metric of all steps, (steps,) float64, read-only; NaN where a step does not have it."""
        return self._shared.column(name)[: self._count]

    def names(self) -> list[str]:
        """List the metrics that any step has, in the order of their first appearance."""
        return self._shared.names()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        if isinstance(index, slice):
            return [self._shared.rows[i] for i in range(*index.indices(self._count))]
        return self._shared.rows[range(self._count)[index]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Steps) and self[:] == other[:]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Steps({list(self[:])!r})"


class _Shared:
    """The rows, and the columns that were asked for."""

    def __init__(self, rows: list[Event]) -> None:
        self.rows = rows
        self._columns: dict[str, tuple[np.ndarray, int]] = {}
        self._names: dict[str, None] = {}
        self._named = 0

    def column(self, name: str) -> np.ndarray:
        import numpy as np  # takes a while to import, and a list of runs needs no columns

        values, filled = self._columns.get(name, (np.empty(0), 0))
        count = len(self.rows)
        if filled < count:
            if count > len(values):  # grow by doubling; columns returned earlier keep the old array
                values = np.concatenate([values[:filled], np.full(max(64, 2 * count) - filled, np.nan)])
            new = [row.get(name) for row in islice(self.rows, filled, count)]
            # NumPy itself turns None into NaN, many times faster.
            values[filled:count] = new if _NUMBERS.issuperset(map(type, new)) else list(map(_number, new))
            self._columns[name] = (values, count)
        return values[:count]

    def names(self) -> list[str]:
        for row in self.rows[self._named :]:
            if not row.keys() <= self._names.keys() | _PLACE:
                self._names |= dict.fromkeys(name for name in row if name not in _PLACE)
        self._named = len(self.rows)
        return list(self._names)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else float("nan")
