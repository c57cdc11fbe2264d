"""``eval``: measure policies of a run on held-out examples, or on tasks of the lm-evaluation-harness."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Option

from ...base import filesystem
from ...base.errors import UsageError
from ...base.machine import awake
from ...base.text import printable
from ...recipe.policy_names import wanted_policy
from ...runs.policies import find_policy
from ...runs.run import find_run
from ..options import Folder, Iteration, Json, RunName, TrustRemoteCode, chosen_policies
from ..output import print_json, print_table


@awake()
def evaluate(
    name: RunName,
    iteration: Iteration = None,
    policies: Annotated[
        list[str] | None,
        Option("--policy", metavar="NAME", help="base, initial, an iteration's number, or best (default); repeatable."),
    ] = None,
    data: Annotated[str | None, Option(metavar="FILE", help="Examples; by default the validation examples.")] = None,
    metrics: Annotated[str | None, Option(metavar="A,B", help="Task metrics; by default the recipe's.")] = None,
    regex: Annotated[str | None, Option(metavar="R", help="Pattern of the metric regex.")] = None,
    harness: Annotated[
        str | None, Option(metavar="TASKS", help="Tasks of the lm-evaluation-harness, such as gsm8k,ifeval.")
    ] = None,
    tasks_folder: Annotated[Path | None, Option(help="YAML files of your own tasks for the harness.")] = None,
    system: Annotated[str | None, Option(metavar="TEXT", help="System prompt of the harness; by default none.")] = None,
    limit: Annotated[int | None, Option(min=1, help="Use only this many examples, from the first.")] = None,
    max_tokens: Annotated[int | None, Option(min=1, help="Longest answer; by default the recipe's or task's.")] = None,
    out: Annotated[Path | None, Option(metavar="FILE", help="Write the answers, as JSON lines.")] = None,
    folder: Folder = Path("runs"),
    as_json: Json = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Measure policies of a run on held-out examples, or on tasks of the lm-evaluation-harness.

    Answers are greedy. The harness needs pip install "tspin-mlx\\[eval]".

    Example: tspin-mlx eval quickstart --policy base --policy best --data test.jsonl --metrics json_exact

    Example: tspin-mlx eval quickstart --harness gsm8k --limit 50
    """
    from ...evaluation.harness import run_harness
    from ...evaluation.metrics import metric
    from ...evaluation.of_run import evaluation_section, held_out_prompts, measure_policies
    from ..harness import on_tasks, tasks_table
    from ..result import measures_table

    wanted = chosen_policies(iteration, policies)
    if harness is None and (tasks_folder or system):
        raise typer.BadParameter("--tasks-folder and --system need --harness")
    if harness is not None and (data or metrics or regex or out):
        raise typer.BadParameter("--data, --metrics, --regex and --out do not go with --harness")
    run = find_run(name, folder)
    for policy in wanted:
        find_policy(run, policy)  # raises if there is none
    if harness is not None:
        tasks = _separated(harness)
        if tasks_folder is not None and not tasks_folder.is_dir():
            raise UsageError(f"{tasks_folder}: no such folder")
        if not tasks:
            raise UsageError("--harness needs the names of tasks", hint="for example: --harness gsm8k,ifeval")
        measure = partial(run_harness, folder=tasks_folder, system=system, limit=limit, max_tokens=max_tokens)
        results = list(on_tasks(run, wanted, tasks, measure, trusted=trust_remote_code))
        if as_json:
            print_json([result._asdict() for result in results])
        else:
            print_table(tasks_table(results))
        return
    names = None if metrics is None else _separated(metrics)
    section = evaluation_section(run, names, regex, max_tokens)
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already", hint="give another name with --out")
    prompts = held_out_prompts(run, data, limit, trusted=trust_remote_code)
    with _progress() as report:
        measured = list(measure_policies(run, wanted, prompts, section, report, trusted=trust_remote_code))
    if out is not None:
        judges = {str(name): metric(name, section.regex) for name in section.metrics}
        answers = [
            {"policy": one.name, "id": prompt.id, "system": prompt.system, "prompt": prompt.text,
             "annotated": prompt.annotated.text, "response": response.text, "finish_reason": response.finish_reason,
             **{name: judge(response.text, prompt.answer) for name, judge in judges.items()}}
            for one in measured
            for prompt, response in zip(prompts, one.responses, strict=True)
        ]  # fmt: skip
        filesystem.write_text(out, filesystem.to_jsonl(answers))
    source = data or "validation"
    if as_json:
        rows = [
            {"run": run.name, "policy": one.name, "folder": one.folder, "data": source, "examples": len(prompts),
             "metrics": one.metrics}
            for one in measured
        ]  # fmt: skip
        print_json(rows)
    else:
        table = {wanted_policy(one.name, one.folder): one.metrics for one in measured}
        print_table(measures_table(f"{printable(source)} ({len(prompts)} examples)", table))


def _separated(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each policy on stderr, if that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, TaskID] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield report
