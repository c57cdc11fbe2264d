"""Run status as text: status lines, and the side panel of aligned names and values. No widgets."""

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
class RunStatus:
    """A run at one moment, with its plan.

    Attributes:
        view: the run, folded from its events.
        state: from :func:`tspin_mlx.runs.state.state_of`, or ``replayed``.
        plan: as it was stored.
        colours: by name, see :func:`tspin_mlx.tui.theme.theme_colours`.
        frozen: whether the screen is frozen at this moment.
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
        """The number of iterations in the plan."""
        return self.plan.iterations

    @property
    def has_warmup(self) -> bool:
        """Whether the plan has a warm-up."""
        return self.plan.warm

    def styled(self, *parts: tuple[str, str]) -> Text:
        """Join pieces of text, each with the name of a theme colour, a Rich style, or an empty string."""
        return Text.assemble(*((text, self.colours.get(colour, colour)) for text, colour in parts))


def state_text(state: str, colours: Mapping[str, str]) -> Text:
    """Return the state of a run: a symbol and a label."""
    symbol, colour, label = _STATES.get(state, ("▸", "accent", state))
    return Text.assemble((f"{symbol} ", colours.get(colour, "")), label)


def headline(status: RunStatus, width: int) -> Text:
    """Return the first status line: name, state, iteration and remaining time; a long name is abridged to the room
    that is left, but not below a third of the line."""
    view = status.view
    if status.state == "replayed":
        parts = [status.styled(("▸ ", "accent"), (f"replay at {status.speed:g}×", ""))]
    else:
        parts = [state_text(status.state, status.colours)]
    if status.frozen:
        parts.append(status.styled(("frozen: space resumes", "warning")))
    if view.stopping and status.state in ("running", "stalled"):
        parts.append(status.styled((f"stopping after this {view.stopping}", "warning")))
    if view.phase is not None and status.state in ("running", "stalled", "replayed"):
        if view.iteration is not None:
            parts.append(Text(f"iteration {view.iteration} ({view.iteration + 1} of {status.iterations})"))
        left = remaining_s(view, status.plan.phases)
        if left is not None:
            parts.append(status.styled((f"about {duration(left)} left", "dim")))
    rest, min_name = Text("   ").join(parts), width // 3
    if min(len(view.name), min_name) + 5 + rest.cell_len > width and parts[-1].plain.startswith("about"):
        rest = Text("   ").join(parts[:-1])
    name = abridge(view.name, max(min_name, width - 5 - rest.cell_len))
    line = Text.assemble((name, "bold"), "     ", rest)
    line.truncate(width, overflow="ellipsis")
    return line


def progress_line(status: RunStatus, width: int) -> Text:
    """Return the second status line: the current phase with a progress bar, its count and remaining time."""
    view = status.view
    if view.phase is None or status.state not in ("running", "stalled", "replayed"):
        return status.styled((_without_phase(status), "dim"))
    count = f" {view.done}/{view.total}" if view.total else " …"
    left = view.phase_remaining_s()
    tail = f"  {duration(left)} left" if left is not None and view.done < view.total else ""
    title = shorten(view.title.split(": ", 1)[-1], max(8, width - 28))
    room = width - len(title) - len(count) - len(tail) - 2
    bar = progress_bar(view.done / view.total if view.total else 0.0, min(30, room)) if room >= 6 else ("", "")
    return status.styled((title + " ", ""), (" " + bar[0], "accent"), (bar[1], "rule"), (count, ""), (tail, "dim"))


def progress_bar(share: float, width: int) -> tuple[str, str]:
    """Return the full and the empty part of a progress bar, ``width`` cells together."""
    full = round(min(1.0, max(0.0, share)) * width)
    return "━" * full, "─" * (width - full)


def side_panel(status: RunStatus, width: int) -> Text:
    """Return the side panel, ``width`` cells wide: warnings, phases, metrics of the last step, held-out metrics."""
    sections = [_problems(status), _phases(status, width), _last_step(status, width), _held_out(status, width)]
    return Text("\n\n").join(Text("\n").join(lines) for lines in map(list, sections) if lines)


def summary_line(status: RunStatus, width: int) -> Text:
    """Return the most important metrics of the last step in one line, for narrow screens."""
    step = status.view.step or (status.view.steps[-1] if status.view.steps else {})
    parts = [
        status.styled((name + " ", "dim"), (template.format(step[key]), ""))
        for name, key, template in _SUMMARY
        if key in step
    ]
    while parts and sum(part.cell_len + 3 for part in parts) - 3 > width:
        parts.pop()
    return Text("   ").join(parts)


_SUMMARY = (
    ("loss", "loss", "{:.3f}"), ("accuracy", "rewards/accuracies", "{:.0%}"), ("tokens/s", "tokens_per_s", "{:.0f}"),
    ("gradient", "grad_norm", "{:.2f}"),
)  # fmt: skip


def name_value(status: RunStatus, name: str, value: str, width: int) -> Text:
    """Return a line with a name at the left and a value at the right."""
    return status.styled((f"{name} ", "dim"), (f"{value:>{max(0, width - len(name) - 1)}}", ""))


# --- the sections of the side panel


def _phases(status: RunStatus, width: int) -> Iterator[Text]:
    view, rows = status.view, status.plan.phases
    current = next((i for i, phase in enumerate(rows) if phase.target == view.phase), None)
    if current is None:
        return
    for i, phase in enumerate(rows):
        if phase.iteration != view.iteration or (view.iteration is None and abs(i - current) > 3):
            continue
        title = shorten(phase.title.split(": ", 1)[-1], width - 9)
        if i < current:
            took = view.durations.get(phase.target)
            elapsed = duration(took) if took is not None and took >= 1 else ""
            yield status.styled(("✓ ", "success"), (f"{title:<{width - 8}}{elapsed:>6}", "dim"))
        elif i == current:
            count = f"{view.done}/{view.total}" if view.total else ""
            yield status.styled(("▸ ", "accent"), (f"{title:<{width - 8}}", "bold"), (f"{count:>6}", ""))
        else:
            yield status.styled((f"  {title}", "dim"))


def _last_step(status: RunStatus, width: int) -> Iterator[Text]:
    view = status.view
    step = view.step or (view.steps[-1] if view.steps else {})
    for name, key in (
        ("loss", "loss"), ("reward accuracy", "rewards/accuracies"), ("learning rate", "learning_rate"),
        ("gradient norm", "grad_norm"),
    ):  # fmt: skip
        if key in step:
            value = f"{step[key]:.0%}" if key == "rewards/accuracies" else _number(step[key])
            yield name_value(status, name, value, width)
    speed = view.tokens_per_s if view.phase is not None else None
    if (speed := speed or step.get("tokens_per_s")) is not None:
        yield name_value(status, "tokens/s", f"{speed:,.0f}", width)
    if "memory/peak_bytes" in step:
        yield name_value(
            status, "peak memory", format_memory(step["memory/peak_bytes"], view.machine.get("memory_bytes")), width
        )
    if view.generated:
        last = view.generated[max(view.generated)]
        yield name_value(status, "stop rate", f"{last['stop_rate']:.0%}", width)
        yield name_value(status, "identical to expert's", f"{last.get('identical', 0.0):.0%}", width)


def format_memory(used: float, total: float | None) -> str:
    """Format bytes in GB, with the total if it is known."""
    return f"{used / 1e9:.2f} of {total / 1e9:.1f} GB" if total else f"{used / 1e9:.2f} GB"


def _held_out(status: RunStatus, width: int) -> Iterator[Text]:
    evaluations = status.view.evaluations
    if not evaluations:
        return
    names = held_out_metrics(status, (width - 15) // 6)
    yield status.styled((f"{'held out':<15}" + "".join(f"{HEADINGS.get(name, name)[:5]:>6}" for name in names), "dim"))
    for policy, values in evaluations.items():
        star = "★ " if policy == status.view.best else "  "
        label = f"{star}{policy_label(policy, status.has_warmup)}"
        cells = "".join(f"{format_metric(values.get(name)):>6}" for name in names)
        yield status.styled((f"{label:<15.15}", "accent" if policy == status.view.best else ""), (cells, ""))


def held_out_metrics(status: RunStatus, limit: int) -> list[str]:
    """Return the held-out metrics to show: the one that selects the best policy, NLL and stop rate, then the others."""
    best = status.plan.best_metric
    measured = dict.fromkeys(name for values in status.view.evaluations.values() for name in values)
    wanted = [best, "nll", "stop_rate", *(name for name in measured if not name.startswith("advantage"))]
    return [name for name in dict.fromkeys(wanted) if name in measured and name != "length"][: max(1, limit)]


def format_metric(value: float | None) -> str:
    """Format a held-out metric, without the zero before a decimal point."""
    return "–" if value is None else f"{value:.3f}".replace("0.", ".", 1) if 0 <= value < 1 else f"{value:.2f}"


def _problems(status: RunStatus) -> Iterator[Text]:
    view = status.view
    for warning in dict.fromkeys(view.warnings[-4:]):
        yield status.styled(("! ", "warning"), (printable(warning), "warning"))
    if view.failed and status.state != "running":
        yield status.styled(("✗ ", "error"), (printable(view.failed), "error"))
        if view.hint:
            yield status.styled(("→ " + printable(view.hint), "dim"))


def _without_phase(status: RunStatus) -> str:
    view = status.view
    if view.finished and view.best:
        metric = status.plan.best_metric
        value = view.evaluations.get(view.best, {}).get(metric)
        result = f" ({HEADINGS.get(metric, metric)} {format_metric(value)})" if value is not None else ""
        return f"best: {policy_label(view.best, status.has_warmup)}{result}"
    if status.state in ("running", "stalled"):
        return "loading the model …" if not view.durations or view.time == view.begun else "between phases"
    if status.state == "replayed":
        return "before the first event" if not view.time else "between phases"
    return f"{view.phases_done} of {view.phases} phases done"


def _number(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}".replace("e-0", "e−").replace("e+0", "e").replace("-", "−")
    return signed(value).lstrip("+") if abs(value) >= 10 else f"{value:.4f}".replace("-", "−")
