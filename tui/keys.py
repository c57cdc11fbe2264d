"""Key bindings: the default keys of each action, and the keymap file with which a user changes them."""

from __future__ import annotations

import itertools
import os
import tomllib
from pathlib import Path

from textual.binding import Binding

from tspin_mlx.base.errors import UsageError
from tspin_mlx.base.text import did_you_mean

#: The default keys of each action, by the action's id; some letters are bound in both cases.
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
#: Bound only in the stop dialog, where of the other keys only "back" works; they may share keys with all others.
_DIALOG_IDS = {"stop-iteration", "stop-step", "stop-now"}


def binding(
    id: str, action: str, description: str, *, show: bool = True, tooltip: str = "", priority: bool = False
) -> Binding:
    """Return a key binding with the keys of an action's id."""
    return Binding(KEYS[id], action, description, show=show, tooltip=tooltip, id=id, priority=priority)


def keymap_path() -> Path:
    """Return the path of the keymap file: TOML with lines such as ``stop = "x"``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "tspin-mlx" / "keys.toml"


def load_keymap(path: Path) -> dict[str, str]:
    """Read the keymap file: keys by the id of their action; empty if there is no file.

    Raises:
        UsageError: not TOML, an unknown action, or a key that another action has.
    """
    try:
        keymap = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    for name, keys in keymap.items():
        if name not in KEYS:
            nearest = did_you_mean(name, KEYS)
            raise UsageError(
                f"{path}: there is no action {name!r}",
                hint=f"did you mean {nearest}?" if nearest else f"known: {', '.join(KEYS)}",
            )
        if not isinstance(keys, str) or not keys:
            raise UsageError(f'{path}: {name} must be a string such as "x" or "ctrl+x,f5"')
    for name, other in itertools.product(keymap, KEYS):
        shared = _split(keymap[name]) & _split(keymap.get(other, KEYS[other])) - _split(KEYS[name])
        if name != other and shared and _are_active_together(name, other):
            raise UsageError(
                f"{path}: {name} and {other} would share the key {min(shared)}",
                hint="give one of them another key",
            )
    return keymap


def _are_active_together(name: str, other: str) -> bool:
    return (name in _DIALOG_IDS) == (other in _DIALOG_IDS) or "back" in (name, other)


def _split(keys: str) -> set[str]:
    return {key.strip() for key in keys.split(",")}
