"""Commands that use what was trained: talk to it, look at what it was trained on, measure it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..recipe.policy_names import BEST
from .options import Folder, Iteration, Json, Policy, RunName, SampleOrder, TrustRemoteCode, chosen_policy


def chat(
    run: RunName,
    iteration: Iteration = None,
    policy: Policy = None,
    compare: Annotated[bool, typer.Option("--compare", help="The base model's answers beside them.")] = False,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="System prompt; by default that of the training.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest tokens.")] = 0.0,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Longest answer; by default that of the recipe.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same one gives the same answers.")] = 0,
    single: Annotated[bool, typer.Option("--single", help="Answer every prompt alone, without those before.")] = False,
    folder: Folder = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per answer.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Talk to the model as it was trained, or before and after side by side.

    Prompts are rendered as in training. From a pipe, every line is a prompt of its own.

    Example: tspin-mlx chat quickstart --compare

    Example: tspin-mlx chat quickstart --json < prompts.txt
    """
    from .chat import Settings
    from .chat import chat as talk

    settings = Settings(temperature, max_tokens, seed)
    talk(
        run,
        folder,
        policy=chosen_policy(iteration, policy),
        compare=compare,
        system=system,
        settings=settings,
        single=single,
        as_json=json,
        trusted=trust_remote_code,
    )


def samples(
    run: RunName,
    iteration: Annotated[
        int | None,
        typer.Option("--iteration", min=0, metavar="N", help="Triplets of iteration N; by default the last."),
    ] = None,
    sort: Annotated[
        SampleOrder, typer.Option("--sort", help="The smallest advantage first, or as in the file.")
    ] = "file",
    count: Annotated[int, typer.Option("--count", min=1, help="How many to show.")] = 10,
    folder: Folder = Path("runs"),
    json: Json = False,
) -> None:
    """Show what an iteration was trained on: prompt, the expert's answer, the model's, and its very first one.

    With each the log-probability that training saw when it first came to it. Needs no model.

    Example: tspin-mlx samples quickstart --iteration 1 --sort current --count 3
    """
    from .samples import show_samples

    show_samples(run, folder, iteration=iteration, order=sort, count=count, as_json=json)


def evaluate(
    run: RunName,
    iteration: Iteration = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="base, initial, an iteration's number, or best, the default; again for several.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="Examples; by default the run's validation examples.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="A,B", help="Task metrics; by default the recipe's.")
    ] = None,
    regex: Annotated[str | None, typer.Option("--regex", metavar="R", help="Pattern of the metric regex.")] = None,
    harness: Annotated[
        str | None,
        typer.Option("--harness", metavar="TASKS", help="Tasks of the lm-evaluation-harness, such as gsm8k,ifeval."),
    ] = None,
    tasks_folder: Annotated[
        Path | None, typer.Option("--tasks-folder", help="YAML files of your own tasks for the harness.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="System prompt for the harness; by default none.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many examples.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Longest answer; by default the recipe's or the task's.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the answers, as JSON lines.")] = None,
    folder: Folder = Path("runs"),
    json: Json = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Measure policies of a run on held-out examples, or on tasks of the lm-evaluation-harness.

    Answers are greedy. The harness needs pip install "tspin-mlx\\[eval]".

    Example: tspin-mlx eval quickstart --policy base --policy best --data test.jsonl --metrics json_exact

    Example: tspin-mlx eval quickstart --harness gsm8k --limit 50
    """
    from .evaluate import evaluate as measure
    from .evaluate import evaluate_harness

    if iteration is not None and policy:
        raise typer.BadParameter("give --iteration or --policy, not both")
    policies = [str(iteration)] if iteration is not None else policy or [BEST]
    if harness is None and (tasks_folder or system):
        raise typer.BadParameter("--tasks-folder and --system need --harness")
    if harness is not None:
        if data or metrics or regex or out:
            raise typer.BadParameter("--data, --metrics, --regex and --out do not go with --harness")
        evaluate_harness(
            run,
            folder,
            policies=policies,
            tasks=harness,
            tasks_folder=tasks_folder,
            system=system,
            limit=limit,
            max_tokens=max_tokens,
            as_json=json,
            trusted=trust_remote_code,
        )
        return
    measure(
        run,
        folder,
        policies=policies,
        data=data,
        metrics=metrics,
        regex=regex,
        limit=limit,
        max_tokens=max_tokens,
        out=out,
        as_json=json,
        trusted=trust_remote_code,
    )
