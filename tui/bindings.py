"""Bindings that take their keys from :mod:`.keys`."""

from __future__ import annotations

from textual.binding import Binding

from .keys import KEYS


def bound(
    id: str, action: str, description: str, *, show: bool = True, tooltip: str = "", priority: bool = False
) -> Binding:
    """A binding of the action with this id."""
    return Binding(KEYS[id], action, description, show=show, tooltip=tooltip, id=id, priority=priority)
