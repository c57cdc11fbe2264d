"""What a run does at this moment, in words and aligned numbers. No widget in here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.text import Text

from tspin_mlx.base.text import abridge, duration, printable, shorten, signed
from tspin_mlx.evaluation.metrics import HEADINGS
from tspin_mlx.recipe.phase import Outline
from tspin_mlx.recipe.policy_names import policy_label
from tspin_mlx.view.run_view import RunView, remaining_s

_STATES = {
    "running": ("●", "success", "running"),
    "stalled": ("●", "warning", "running, but silent"),
    "interrupted": ("‖", "warning", "interrupted: r resumes"),
    "failed": ("✗", "error", "failed: r tries again"),
    "finished": ("✓", "success", "finished"),
    "damaged": ("✗", "error", "damaged"),
}


@dataclass(frozen=True)
class Now:
    """A run at a moment, with what the plan says of it.

    Attributes:
        view: folded events.
        state: as :func:`tspin_mlx.runs.state.state_of` says, or ``replayed``.
        plan: as it was stored.
        colours: by the words of the theme: ``dim``, ``success``, ``warning``, ``error``, ``accent``.
        frozen: the screen shows an earlier moment.
        speed: of a replay.
    """

    view: RunView
    state: str
    plan: Outline
    colours: Mapping[str, str]
    frozen: bool = False
    speed: float = 0.0

    @property
    def iterations(self) -> int:
        """How many the plan has."""
        return self.plan.iterations

    @property
    def warm(self) -> bool:
        """Whether the plan has a warm-up."""
        return self.plan.warm

    def text(self, *parts: tuple[str, str]) -> Text:
        """Pieces of text, each with a word of the theme for its colour, or none."""
        return Text.assemble(*((text, self.colours.get(colour, colour)) for text, colour in parts))


def state_text(state: str, colours: Mapping[str, str]) -> Text:
    """A run's state: a sign and words."""
    sign, colour, words = _STATES.get(state, ("▸", "accent", state))
    return Text.assemble((f"{sign} ", colours.get(colour, "")), words)


def headline(now: Now, width: int) -> Text:
    """The run's name, state, place in the plan and remaining time in one line; a long name gets what is left, and a
    third of the line at least."""
    view = now.view
    if now.state == "replayed":
        parts = [now.text(("▸ ", "accent"), (f"replay at {now.speed:g}×", ""))]
    else:
        parts = [state_text(now.state, now.colours)]
    if now.frozen:
        parts.append(now.text(("frozen: space goes on", "warning")))
    if view.stopping and now.state in ("running", "stalled"):
        parts.append(now.text((f"stopping after this {view.stopping}", "warning")))
    if view.phase is not None and now.state in ("running", "stalled", "replayed"):
        if view.iteration is not None:
            parts.append(Text(f"iteration {view.iteration} ({view.iteration + 1} of {now.iterations})"))
        left = remaining_s(view, now.plan.phases)
        if left is not None:
            parts.append(now.text((f"about {duration(left)} left", "dim")))
    rest, least = Text("   ").join(parts), width // 3
    if min(len(view.name), least) + 5 + rest.cell_len > width and parts[-1].plain.startswith("about"):
        rest = Text("   ").join(parts[:-1])
    name = abridge(view.name, max(least, width - 5 - rest.cell_len))
    line = Text.assemble((name, "bold"), "     ", rest)
    line.truncate(width, overflow="ellipsis")
    return line


def progress(now: Now, width: int) -> Text:
    """The current phase: its name, a bar, how far it is and how long it takes; in one line."""
    view = now.view
    if view.phase is None or now.state not in ("running", "stalled", "replayed"):
        return now.text((_ended(now), "dim"))
    count = f" {view.done}/{view.total}" if view.total else " …"
    left = view.phase_remaining_s()
    tail = f"  {duration(left)} left" if left is not None and view.done < view.total else ""
    title = shorten(view.title.split(": ", 1)[-1], max(8, width - 28))
    room = width - len(title) - len(count) - len(tail) - 2
    bar = bar_of(view.done / view.total if view.total else 0.0, min(30, room)) if room >= 6 else ("", "")
    return now.text((title + " ", ""), (" " + bar[0], "accent"), (bar[1], "rule"), (count, ""), (tail, "dim"))


def bar_of(share: float, width: int) -> tuple[str, str]:
    """A bar of so many cells, full and empty part."""
    full = round(min(1.0, max(0.0, share)) * width)
    return "━" * full, "─" * (width - full)


def panel(now: Now, width: int) -> Text:
    """Everything about this moment, in a column of so many cells."""
    sections = [_troubles(now), _phases(now, width), _measures(now, width), _held_out(now, width)]
    return Text("\n\n").join(Text("\n").join(lines) for lines in map(list, sections) if lines)


def brief(now: Now, width: int) -> Text:
    """The measures that matter most, in one line, for small screens."""
    step = now.view.step or (now.view.steps[-1] if now.view.steps else {})
    parts = [now.text((name + " ", "dim"), (form.format(step[key]), "")) for name, key, form in _BRIEF if key in step]
    while parts and sum(part.cell_len + 3 for part in parts) - 3 > width:
        parts.pop()
    return Text("   ").join(parts)


_BRIEF = (
    ("loss", "loss", "{:.3f}"), ("accuracy", "rewards/accuracies", "{:.0%}"), ("tokens/s", "tokens_per_s", "{:.0f}"),
    ("gradient", "grad_norm", "{:.2f}"),
)  # fmt: skip


def row(now: Now, name: str, value: str, width: int) -> Text:
    """A name at the left and a value at the right."""
    return now.text((f"{name} ", "dim"), (f"{value:>{max(0, width - len(name) - 1)}}", ""))


# --- the sections of the panel


def _phases(now: Now, width: int) -> Iterator[Text]:
    view, rows = now.view, now.plan.phases
    current = next((i for i, phase in enumerate(rows) if phase.target == view.phase), None)
    if current is None:
        return
    for i, phase in enumerate(rows):
        if phase.iteration != view.iteration or (view.iteration is None and abs(i - current) > 3):
            continue
        title = shorten(phase.title.split(": ", 1)[-1], width - 9)
        if i < current:
            took = view.durations.get(phase.target)
            told = duration(took) if took is not None and took >= 1 else ""
            yield now.text(("✓ ", "success"), (f"{title:<{width - 8}}{told:>6}", "dim"))
        elif i == current:
            count = f"{view.done}/{view.total}" if view.total else ""
            yield now.text(("▸ ", "accent"), (f"{title:<{width - 8}}", "bold"), (f"{count:>6}", ""))
        else:
            yield now.text((f"  {title}", "dim"))


def _measures(now: Now, width: int) -> Iterator[Text]:
    view = now.view
    step = view.step or (view.steps[-1] if view.steps else {})
    for name, key in (
        ("loss", "loss"), ("reward accuracy", "rewards/accuracies"), ("learning rate", "learning_rate"),
        ("gradient norm", "grad_norm"),
    ):  # fmt: skip
        if key in step:
            value = f"{step[key]:.0%}" if key == "rewards/accuracies" else _number(step[key])
            yield row(now, name, value, width)
    speed = view.tokens_per_s if view.phase is not None else None
    if (speed := speed or step.get("tokens_per_s")) is not None:
        yield row(now, "tokens/s", f"{speed:,.0f}", width)
    if "memory/peak_bytes" in step:
        yield row(now, "peak memory", memory(step["memory/peak_bytes"], view.machine.get("memory_bytes")), width)
    if view.generated:
        last = view.generated[max(view.generated)]
        yield row(now, "own answers that end", f"{last['stop_rate']:.0%}", width)
        yield row(now, "equal to the expert's", f"{last.get('identical', 0.0):.0%}", width)


def memory(used: float, of: float | None) -> str:
    """Bytes in GB, against those of the machine if they are known."""
    return f"{used / 1e9:.2f} of {of / 1e9:.1f} GB" if of else f"{used / 1e9:.2f} GB"


def _held_out(now: Now, width: int) -> Iterator[Text]:
    found = now.view.evaluations
    if not found:
        return
    names = held_out_names(now, (width - 15) // 6)
    yield now.text((f"{'held out':<15}" + "".join(f"{HEADINGS.get(name, name)[:5]:>6}" for name in names), "dim"))
    for policy, values in found.items():
        star = "★ " if policy == now.view.best else "  "
        label = f"{star}{policy_label(policy, now.warm)}"
        cells = "".join(f"{short(values.get(name)):>6}" for name in names)
        yield now.text((f"{label:<15.15}", "accent" if policy == now.view.best else ""), (cells, ""))


def held_out_names(now: Now, most: int) -> list[str]:
    """The measures to show: first the one that chooses, then what tells of damage, then the others."""
    best = now.plan.best_metric
    measured = dict.fromkeys(name for values in now.view.evaluations.values() for name in values)
    wanted = [best, "nll", "stop_rate", *(name for name in measured if not name.startswith("advantage"))]
    return [name for name in dict.fromkeys(wanted) if name in measured and name != "length"][: max(1, most)]


def short(value: float | None) -> str:
    """A measure in few characters."""
    return "–" if value is None else f"{value:.3f}".replace("0.", ".", 1) if 0 <= value < 1 else f"{value:.2f}"


def _troubles(now: Now) -> Iterator[Text]:
    view = now.view
    for warning in dict.fromkeys(view.warnings[-4:]):
        yield now.text(("! ", "warning"), (printable(warning), "warning"))
    if view.failed and now.state != "running":
        yield now.text(("✗ ", "error"), (printable(view.failed), "error"))
        if view.hint:
            yield now.text(("→ " + printable(view.hint), "dim"))


def _ended(now: Now) -> str:
    view = now.view
    if view.finished and view.best:
        metric = now.plan.best_metric
        value = view.evaluations.get(view.best, {}).get(metric)
        told = f" ({HEADINGS.get(metric, metric)} {short(value)})" if value is not None else ""
        return f"best: {policy_label(view.best, now.warm)}{told}"
    if now.state in ("running", "stalled"):
        return "loading the model …" if not view.durations or view.time == view.begun else "between two phases"
    if now.state == "replayed":
        return "before the first event" if not view.time else "between two phases"
    return f"{view.phases_done} of {view.phases} phases are done"


def _number(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}".replace("e-0", "e−").replace("e+0", "e").replace("-", "−")
    return signed(value).lstrip("+") if abs(value) >= 10 else f"{value:.4f}".replace("-", "−")
