"""``eval --harness``: measure policies on tasks of the lm-evaluation-harness, and tabulate the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from ..base.text import printable
from ..evaluation.harness import Results, require_harness
from ..models.of_run import load_run, use_policy
from ..recipe.policy_names import wanted_policy
from ..runs.run import Run
from .console import say
from .output import plain_table


class Measured(NamedTuple):
    """The results of one policy, which is in ``folder`` of the run."""

    run: str
    policy: str
    folder: str
    results: Results


def on_tasks(
    run: Run, policies: Sequence[str], tasks: Sequence[str], measure: Callable[..., Results], *, trusted: bool
) -> Iterator[Measured]:
    """Measure policies on tasks.

    Args:
        measure: :func:`tspin_mlx.evaluation.harness.run_harness`, with the options of the command line.

    Raises:
        SetupError: the harness is not installed.
    """
    require_harness()
    recipe = run.recipe()
    model = load_run(run, recipe, trusted=trusted)
    for policy in policies:
        folder = use_policy(model, run, policy)
        say(f"{wanted_policy(policy, folder)}: {', '.join(tasks)}")
        settings = {"template": recipe.data.template, "batch_size": recipe.generation.batch_size}
        yield Measured(run.name, policy, folder, measure(model, tasks, **settings))


def tasks_table(measured: Sequence[Measured]) -> Table:
    """A line for each measure of each task and policy."""
    table = plain_table("policy", "task", "measure", "value", "± standard error", right=("value", "± standard error"))
    for one in measured:
        for task, measures in one.results.items():
            for name, value in measures.items():
                measure, _, kind = name.partition(",")
                if measure.endswith("_stderr") or not kind:
                    continue
                error = measures.get(f"{measure}_stderr,{kind}")
                table.add_row(
                    Text(wanted_policy(one.policy, one.folder)),
                    Text(printable(task)),
                    Text(printable(measure if kind == "none" else f"{measure} ({kind})")),
                    f"{value:.4f}",
                    "–" if error is None else f"{error:.4f}",
                )
    return table
