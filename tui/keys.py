"""Which keys do what: every binding has an id, and a file may give it other keys."""

from __future__ import annotations

import itertools
import os
import tomllib
from pathlib import Path

from textual.binding import Binding

from tspin_mlx.base.errors import UsageError
from tspin_mlx.base.text import did_you_mean

#: The keys of each action, by its id. Screens bind these ids; a capital letter stands beside its small one.
KEYS = {
    "quit": "q", "help": "question_mark,f1", "back": "escape", "open": "enter",
    "new": "n,N", "compare": "v,V", "export": "e,E", "chat": "c,C",
    "stop": "s", "resume": "r,R", "fork": "f", "detach": "d,q", "freeze": "space", "replay": "p",
    "slower": "less_than_sign,comma", "faster": "greater_than_sign,full_stop",
    "smoother": "right_square_bracket", "rougher": "left_square_bracket",
    "advantage": "1", "metrics": "2", "samples": "3", "system": "4", "events": "5",
    "filter": "slash", "log": "l", "order": "o", "data": "t", "answers": "tab", "earlier": "left", "later": "right",
    "mark": "m", "start": "ctrl+s", "pick": "ctrl+o", "line-up": "up", "line-down": "down",
    "page-up": "pageup", "page-down": "pagedown", "again": "ctrl+n",
    "stop-iteration": "i", "stop-step": "s", "stop-now": "n",
}  # fmt: skip
_ASKED = {"stop-iteration", "stop-step", "stop-now"}  # in a dialog, which but the way back leaves other keys no meaning


def bound(
    id: str, action: str, description: str, *, show: bool = True, tooltip: str = "", priority: bool = False
) -> Binding:
    """A binding of the action with this id."""
    return Binding(KEYS[id], action, description, show=show, tooltip=tooltip, id=id, priority=priority)


def keys_file() -> Path:
    """Where a user's own keys are: lines such as ``stop = "x"``, in TOML."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "tspin-mlx" / "keys.toml"


def own_keys(path: Path) -> dict[str, str]:
    """The keys that a user has chosen, by action; none without the file.

    Raises:
        UsageError: not TOML, an action that does not exist, or a key that another action has.
    """
    try:
        chosen = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    for name, keys in chosen.items():
        if name not in KEYS:
            nearest = did_you_mean(name, KEYS)
            raise UsageError(
                f"{path}: no action is called {name!r}",
                hint=f"did you mean {nearest}?" if nearest else f"known: {', '.join(KEYS)}",
            )
        if not isinstance(keys, str) or not keys:
            raise UsageError(f'{path}: {name} must be a text such as "x" or "ctrl+x,f5"')
    for name, other in itertools.product(chosen, KEYS):
        taken = _keys(chosen[name]) & _keys(chosen.get(other, KEYS[other])) - _keys(KEYS[name])
        if name != other and taken and ((name in _ASKED) == (other in _ASKED) or "back" in (name, other)):
            raise UsageError(
                f"{path}: {name} would have the key {min(taken)}, which {other} has",
                hint="give one of them another key there",
            )
    return chosen


def _keys(text: str) -> set[str]:
    return {key.strip() for key in text.split(",")}
