"""Format events as plain lines of text, for pipes, log files and screens. Pure."""

from __future__ import annotations

from ..base.text import duration, signed
from ..recipe.policy_names import policy_name
from .events import Event

#: In seconds; shorter phases get no line about their duration.
WORTH_A_LINE = 0.5


def event_text(event: Event) -> str | None:
    """Return the line for an event, or None if it gets no line."""
    kind = event["kind"]
    if kind == "phase_started":
        return str(event["title"])
    if kind == "step":
        return "  " + step_line(event)
    if kind == "generated":
        return (
            f"  {event['generate/stop_rate']:.0%} ended on their own, "
            f"{event['generate/identical']:.0%} match the expert's, {event['generate/tokens_per_s']:.0f} tokens/s"
        )
    if kind == "evaluated":
        return "  " + measures_line(event)
    if kind == "phase_finished" and event["elapsed_s"] >= WORTH_A_LINE:
        return f"  took {duration(event['elapsed_s'])}"
    if kind == "warning":
        return f"warning: {event['message']}"
    if kind == "resumed":
        return f"  resuming after {event['done']} of {event['total']}"
    if kind == "stopping":
        return f"stopping after this {event['after']}"
    if kind == "restarted":
        return (
            f"warning: {event['reason']}: restarted from the last checkpoint with smaller batches "
            f"(training.micro_batch_size {event['micro_batch_size']}, "
            f"generation.batch_size {event['generation_batch_size']}); from now on, results may differ by rounding"
        )
    if kind == "chosen":
        return f"best: {policy_name(event['policy'])} ({event['metric']} {event['value']:.3f})"
    return None


def step_line(event: Event) -> str:
    """Format a training step: its loss, and the advantages if it has any."""
    parts = [f"step {event['step']}/{event['steps']}", f"loss {event['loss']:.4f}"]
    if "advantage/current" in event:
        parts.append(f"current {signed(event['advantage/current'])}")
    if "advantage/historical" in event:
        parts.append(f"historical {signed(event['advantage/historical'])}")
    parts.append(f"{event['tokens_per_s']:.0f} tokens/s")
    return "  ".join(parts)


def measures_line(event: Event) -> str:
    """Format the held-out metrics of a policy."""
    parts = []
    for name, value in event.items():
        if name.startswith("eval/") and name != "eval/length":
            short = name.removeprefix("eval/").replace("advantage_", "").replace("stop_rate", "stops")
            parts.append(f"{short} {signed(value) if 'advantage' in name else f'{value:.3f}'}")
    return "  ".join(parts)
