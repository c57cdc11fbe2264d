"""``eval``: held-out measures of any policies of a run, our own or those of the lm-evaluation-harness."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ..base import storage
from ..base.errors import UsageError
from ..base.machine import awake
from ..base.text import printable, suggest
from ..evaluation.metrics import metric
from ..evaluation.of_run import Measured, OnProgress, held_out_prompts, measure_policies
from ..method.triplets import Prompt
from ..recipe.policy_names import wanted_policy
from ..recipe.schema import EvaluationSection, MetricName
from ..runs.policies import find_policy
from ..runs.run import Run, find_run
from .console import say
from .output import print_json
from .result import measures_table


@awake()
def evaluate(
    name: str,
    folder: Path,
    *,
    policies: list[str],
    data: str | None,
    metrics: str | None,
    regex: str | None,
    limit: int | None,
    max_tokens: int | None,
    out: Path | None,
    as_json: bool,
    trusted: bool,
) -> None:
    """``eval`` on examples."""
    run = find_run(name, folder)
    section = _section(run, metrics, regex, max_tokens)
    for policy in policies:
        find_policy(run, policy)
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already", hint="give another name with --out")
    prompts = held_out_prompts(run, data, limit, trusted=trusted)
    with _progress() as report:
        found = list(measure_policies(run, policies, prompts, section, report, trusted=trusted))
    if out is not None:
        _write(out, found, prompts, section)
    source = data or "validation"
    if as_json:
        rows = [
            {"run": run.name, "policy": one.name, "folder": one.folder, "data": source, "examples": len(prompts),
             "metrics": one.metrics}
            for one in found
        ]  # fmt: skip
        print_json(rows)
        return
    table = {wanted_policy(one.name, one.folder): one.metrics for one in found}
    console = Console(highlight=False)
    console.print(measures_table(f"{printable(source)} ({len(prompts)} examples)", table))


@awake()
def evaluate_harness(
    name: str,
    folder: Path,
    *,
    policies: list[str],
    tasks: str,
    tasks_folder: Path | None,
    system: str | None,
    limit: int | None,
    max_tokens: int | None,
    as_json: bool,
    trusted: bool,
) -> None:
    """``eval --harness``."""
    from ..evaluation.harness import require_harness, run_harness
    from ..models.of_run import load_run, use_policy

    run = find_run(name, folder)
    recipe = run.recipe()
    for policy_wanted in policies:
        find_policy(run, policy_wanted)
    if tasks_folder is not None and not tasks_folder.is_dir():
        raise UsageError(f"{tasks_folder}: no such folder")
    names = [task.strip() for task in tasks.split(",") if task.strip()]
    if not names:
        raise UsageError("--harness needs the names of tasks", hint="for example: --harness gsm8k,ifeval")
    require_harness()
    policy = load_run(run, recipe, trusted=trusted)
    rows = []
    for wanted in policies:
        where = use_policy(policy, run, wanted)
        say(f"{wanted_policy(wanted, where)}: {', '.join(names)}")
        results = run_harness(
            policy,
            names,
            template=recipe.data.template,
            batch_size=recipe.generation.batch_size,
            folder=tasks_folder,
            system=system,
            limit=limit,
            max_tokens=max_tokens,
        )
        rows.append({"run": run.name, "policy": wanted, "folder": where, "results": results})
    if as_json:
        print_json(rows)
    else:
        Console(highlight=False).print(_harness_table(rows))


def _section(run: Run, metrics: str | None, regex: str | None, max_tokens: int | None) -> EvaluationSection:
    """The recipe's section with what the command line changes."""
    recipe = run.recipe().evaluation
    names: list[str] = list(recipe.metrics)
    if metrics is not None:
        names = [name.strip() for name in metrics.split(",") if name.strip()]
    elif regex is not None and "regex" not in names:
        names.append("regex")
    for name in names:
        if name not in (known := get_args(MetricName)):
            raise UsageError(f"unknown metric {name!r}", hint=suggest(name, known, f"known: {', '.join(known)}"))
    pattern = (regex or recipe.regex) if "regex" in names else regex
    try:
        return EvaluationSection(
            metrics=tuple(names),  # type: ignore[arg-type]
            regex=pattern,
            max_tokens=max_tokens or recipe.max_tokens,
        )
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on stderr, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bars:
        known: dict[str, Any] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in known:
                known[name] = bars.add_task(name, total=total)
            bars.update(known[name], completed=done)

        yield report


def _write(out: Path, found: list[Measured], prompts: tuple[Prompt, ...], section: EvaluationSection) -> None:
    """Every answer with what it was worth, one per line."""
    judges = {str(name): metric(name, section.regex) for name in section.metrics}
    rows: list[dict[str, Any]] = []
    for one in found:
        for prompt, response in zip(prompts, one.responses, strict=True):
            judged = {name: judge(response.text, prompt.answer) for name, judge in judges.items()}
            rows.append(
                {"policy": one.name, "id": prompt.id, "system": prompt.system, "prompt": prompt.text,
                 "annotated": prompt.annotated.text, "response": response.text,
                 "finish_reason": response.finish_reason, **judged}
            )  # fmt: skip
    storage.write_text(out, storage.to_jsonl(rows))


def _harness_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("policy", "task", "measure"):
        table.add_column(heading)
    table.add_column("value", justify="right")
    table.add_column("± standard error", justify="right")
    for row in rows:
        for task, measures in row["results"].items():
            for name, value in measures.items():
                measure, _, kind = name.partition(",")
                if measure.endswith("_stderr") or not kind:
                    continue
                error = measures.get(f"{measure}_stderr,{kind}")
                shown = measure if kind == "none" else f"{measure} ({kind})"
                table.add_row(
                    Text(wanted_policy(row["policy"], row["folder"])),
                    Text(printable(task)),
                    Text(printable(shown)),
                    f"{value:.4f}",
                    "–" if error is None else f"{error:.4f}",
                )
    return table
