"""The optimiser steps of a run: a sequence that grows at its end, while older copies stay as they were. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from .events import Event

if TYPE_CHECKING:
    import numpy as np

#: Fields of a ``step`` event that tell where it belongs; all others are metrics.
_PLACE = frozenset(("time", "kind", "phase", "iteration", "step", "steps"))
_NUMBERS = frozenset((float, int, bool, type(None)))


class Steps(Sequence[Event]):
    """``step`` events in the order of the steps.

    Views of a run share their rows: adding one costs the same however many there are, and an older view goes on
    seeing what it saw.
    """

    __slots__ = ("_count", "_shared")

    def __init__(self, rows: Sequence[Event] = ()) -> None:
        self._shared, self._count = _Shared(list(rows)), len(rows)

    def followed_by(self, row: Event, at: int) -> Steps:
        """The first ``at`` steps, and ``row`` after them."""
        shared = self._shared
        if at != len(shared.rows):  # what came after is replaced, or another view has gone on from here
            shared = _Shared(shared.rows[: min(at, self._count)])
        shared.rows.append(row)
        grown = Steps.__new__(Steps)
        grown._shared, grown._count = shared, len(shared.rows)
        return grown

    def followed_by_all(self, rows: Sequence[Event]) -> Steps:
        """These steps, and ``rows`` after them."""
        if not rows:
            return self
        grown = self.followed_by(rows[0], self._count)
        grown._shared.rows.extend(rows[1:])
        grown._count += len(rows) - 1
        return grown

    def column(self, name: str) -> np.ndarray:
        """One metric of all steps, shape (steps,), float64; NaN where a step does not have it. Not to be changed."""
        return self._shared.column(name)[: self._count]

    def names(self) -> list[str]:
        """The metrics that any step has, in the order in which they came up."""
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
    """The rows, and their columns as far as they were asked for."""

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
            if count > len(values):  # grows by doubling; what was handed out keeps the old array
                values = np.concatenate([values[:filled], np.full(max(64, 2 * count) - filled, np.nan)])
            found = [row.get(name) for row in islice(self.rows, filled, count)]
            # NumPy makes NaN of None itself, and many times as quickly.
            values[filled:count] = found if _NUMBERS.issuperset(map(type, found)) else list(map(_number, found))
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
