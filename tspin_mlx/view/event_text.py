"""Events as plain lines, for pipes, log files and screens. Pure."""

from __future__ import annotations

from ..base.text import duration, signed
from ..recipe.policy_names import policy_name
from .events import Event

#: Seconds; what took less needs no line to say so.
WORTH_A_LINE = 0.5


def event_text(event: Event) -> str | None:
    """One line for an event, or None if it is not worth one."""
    kind = event["kind"]
    if kind == "phase_started":
        return str(event["title"])
    if kind == "step":
        return "  " + step_line(event)
    if kind == "generated":
        return (
            f"  {event['generate/stop_rate']:.0%} ended by themselves, "
            f"{event['generate/identical']:.0%} equal the expert's, {event['generate/tokens_per_s']:.0f} tokens/s"
        )
    if kind == "evaluated":
        return "  " + measures_line(event)
    if kind == "phase_finished" and event["elapsed_s"] >= WORTH_A_LINE:
        return f"  took {duration(event['elapsed_s'])}"
    if kind == "warning":
        return f"warning: {event['message']}"
    if kind == "resumed":
        return f"  going on after {event['done']} of {event['total']}"
    if kind == "stopping":
        return f"stopping after this {event['after']}"
    if kind == "restarted":
        return (
            f"warning: {event['reason']}: started again from the last checkpoint with less at once "
            f"(training.micro_batch_size {event['micro_batch_size']}, "
            f"generation.batch_size {event['generation_batch_size']}); the rounding of results may differ from now on"
        )
    if kind == "chosen":
        return f"best: {policy_name(event['policy'])} ({event['metric']} {event['value']:.3f})"
    return None


def step_line(event: Event) -> str:
    """A training step: loss and the advantages that it has."""
    parts = [f"step {event['step']}/{event['steps']}", f"loss {event['loss']:.4f}"]
    if "advantage/current" in event:
        parts.append(f"current {signed(event['advantage/current'])}")
    if "advantage/historical" in event:
        parts.append(f"historical {signed(event['advantage/historical'])}")
    parts.append(f"{event['tokens_per_s']:.0f} tokens/s")
    return "  ".join(parts)


def measures_line(event: Event) -> str:
    """The held-out measures of a policy."""
    parts = []
    for name, value in event.items():
        if name.startswith("eval/") and name != "eval/length":
            short = name.removeprefix("eval/").replace("advantage_", "").replace("stop_rate", "stops")
            parts.append(f"{short} {signed(value) if 'advantage' in name else f'{value:.3f}'}")
    return "  ".join(parts)
