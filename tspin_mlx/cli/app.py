"""All commands, their options and their help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    name="tspin-mlx",
    help="Teach a language model a task by triplet self-play (T-SPIN), on this machine, with MLX.",
    epilog="Start with: tspin-mlx quickstart. On a terminal, tspin-mlx alone shows the runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipes_app = typer.Typer(help="Ready recipes, and checks of your own.", no_args_is_help=True)
runs_app = typer.Typer(help="What was run, and how it went.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")
app.add_typer(runs_app, name="runs")

RecipeName = Annotated[str, typer.Argument(help="A ready recipe's name, or a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes of the recipe, such as training.iterations=3.", metavar="[KEY=VALUE]..."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return at once; training goes on in the background.")]
Tui = Annotated[bool, typer.Option("--tui", help="Watch it on a screen of its own; leaving that stops nothing.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model, with your rights.")
]
SampleOrder = Literal["current", "historical", "id"]
StopAfter = Literal["step", "iteration"]
RunName = Annotated[str, typer.Argument(help="A run's name in the folder, or its path.", metavar="RUN")]
RunsFolder = Annotated[Path, typer.Option("--folder", help="Folder that holds the runs.")]
Iteration = Annotated[int | None, typer.Option("--iteration", min=0, metavar="N", help="The policy after iteration N.")]
PolicyName = Annotated[
    str | None, typer.Option("--policy", metavar="NAME", help="base, initial, or best, which is the default.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"tspin-mlx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def quickstart(overrides: Overrides = None, json: Json = False, detach: Detach = False, tui: Tui = False) -> None:
    """Watch the built-in model learn household commands, in a few minutes.

    Fetches a model of 93 MB the first time. The same as `tspin-mlx run quickstart`.

    Example: tspin-mlx quickstart
    """
    from .run import run_recipe

    run_recipe("quickstart", overrides or [], as_json=json, introduce=True, detach=detach, tui=tui)


@app.command()
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    fork: Annotated[
        str | None,
        typer.Option("--fork", metavar="NAME", help="Make a new run NAME with these settings; keep what still holds."),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Run a recipe; given again, go on where it stopped.

    Training happens in a process of its own: closing the terminal does not end it, Ctrl-C does, after the step. The
    results are in runs/NAME, the best adapter in runs/NAME/best.

    Example: tspin-mlx run my-recipe.yaml training.learning_rate=2e-5 run.name=slower

    Example: tspin-mlx run my-recipe.yaml objective.beta=0.3 --fork more-history
    """
    from .run import run_recipe

    run_recipe(recipe, overrides or [], as_json=json, detach=detach, tui=tui, fork=fork, trusted=trust_remote_code)


@app.command()
def resume(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
    detach: Detach = False,
    tui: Tui = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Go on with a run that was stopped, killed or failed, exactly where it was.

    Example: tspin-mlx resume quickstart
    """
    from .run import resume_run

    resume_run(run, folder, as_json=json, detach=detach, tui=tui, trusted=trust_remote_code)


@app.command()
def watch(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    plain: Annotated[bool, typer.Option("--plain", help="Lines only, also on a terminal.")] = False,
    json: Json = False,
) -> None:
    """Watch a run, whether it goes on in the background, has ended, or comes from elsewhere; leaving stops nothing.

    On a terminal this is the app; with --plain, or in a pipe, lines.

    Example: tspin-mlx watch quickstart
    """
    from .control import watch_run

    watch_run(run, folder, as_json=json, plain=plain)


@app.command()
def stop(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    after: Annotated[StopAfter, typer.Option("--after", help="Finish the step, or the whole iteration.")] = "step",
    now: Annotated[bool, typer.Option("--now", help="Finish nothing; the last checkpoint is kept.")] = False,
) -> None:
    """Stop a run; `resume` goes on with it.

    Example: tspin-mlx stop quickstart --after iteration
    """
    from .control import stop_run

    stop_run(run, folder, after=after, now=now)


ExportName = Annotated[
    str | None, typer.Option("--out", "-o", help="Name of the new folder in runs/NAME/exports.", metavar="NAME")
]
BaseId = Annotated[
    str | None,
    typer.Option("--base", help="Hub id of the original of the base model, where its files do not say it."),
]
ExportFormat = Literal["mlx", "peft", "both", "gguf", "triplets"]


@app.command()
def fuse(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    iteration: Iteration = None,
    policy: PolicyName = None,
    out: ExportName = None,
    quantize: Annotated[
        Literal["4", "8"] | None, typer.Option("--quantize", "-q", help="Quantise the result to so many bits.")
    ] = None,
    max_kl: Annotated[
        float | None,
        typer.Option("--max-kl", min=0, help="Largest mean KL to the model with its adapter, in nats (0.005)."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a whole model of the base model and the adapter, and check that it is the same model.

    Weights are dequantised first. The result is compared with the model and its adapter on held-out answers; if they
    differ too much, nothing is kept. Needs no network.

    Example: tspin-mlx fuse quickstart

    Example: tspin-mlx fuse quickstart --iteration 2 --quantize 8
    """
    from ..export.fuse import MAX_KL
    from .export import fuse_run

    bits = int(quantize) if quantize else None
    limit = MAX_KL if max_kl is None else max_kl
    fuse_run(run, folder, policy=_chosen(iteration, policy), out=out, bits=bits, max_kl=limit, as_json=json)


@app.command()
def export(
    run: RunName,
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="For which programs.")],
    folder: RunsFolder = Path("runs"),
    iteration: Iteration = None,
    policy: PolicyName = None,
    out: ExportName = None,
    base: BaseId = None,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """Export the adapter for mlx-lm, PEFT (transformers, vLLM) or both; a GGUF model; or the triplets.

    `gguf` is the fused model in 16 bits, for Ollama and llama.cpp. `triplets` are preference data with TRL's columns.
    Needs no network.

    Example: tspin-mlx export quickstart --format both
    """
    from .export import export_run

    export_run(
        run,
        folder,
        form=format,
        policy=_chosen(iteration, policy),
        out=out,
        base=base,
        trusted=trust_remote_code,
        as_json=json,
    )


@app.command()
def push(
    run: RunName,
    repo: Annotated[str, typer.Argument(help="owner/name on the Hub; a name alone is yours.", metavar="REPO")],
    folder: RunsFolder = Path("runs"),
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    fused: Annotated[bool, typer.Option("--fused", help="Push a whole model instead of the adapter.")] = False,
    iteration: Iteration = None,
    policy: PolicyName = None,
    base: BaseId = None,
    trust_remote_code: TrustRemoteCode = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before sending.")] = False,
    json: Json = False,
) -> None:
    """Push the adapter, with a model card, to a private repository on the Hugging Face Hub.

    Shows every file first and asks. The adapter loads in mlx-lm and in PEFT. Of your data the card tells the sizes
    and the system prompt, nothing else.

    Example: tspin-mlx push quickstart my-household-commands
    """
    from .export import push_run

    push_run(
        run,
        folder,
        repo,
        public=public,
        fused=fused,
        policy=_chosen(iteration, policy),
        base=base,
        trusted=trust_remote_code,
        yes=yes,
        as_json=json,
    )


@app.command()
def chat(
    run: RunName,
    iteration: Iteration = None,
    policy: PolicyName = None,
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
    folder: RunsFolder = Path("runs"),
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
        policy=_chosen(iteration, policy),
        compare=compare,
        system=system,
        settings=settings,
        single=single,
        as_json=json,
        trusted=trust_remote_code,
    )


@app.command()
def samples(
    run: RunName,
    iteration: Annotated[
        int | None,
        typer.Option("--iteration", min=0, metavar="N", help="Triplets of iteration N; by default the last."),
    ] = None,
    sort: Annotated[SampleOrder, typer.Option("--sort", help="The smallest advantage first, or by example.")] = "id",
    count: Annotated[int, typer.Option("--count", min=1, help="How many to show.")] = 10,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
) -> None:
    """Show what an iteration was trained on: prompt, the expert's answer, the model's, and its very first one.

    With each the log-probability that training saw when it first came to it. Needs no model.

    Example: tspin-mlx samples quickstart --iteration 1 --sort current --count 3
    """
    from .samples import show_samples

    show_samples(run, folder, iteration=iteration, order=sort, count=count, as_json=json)


@app.command("eval")
def evaluate(
    run: RunName,
    iteration: Iteration = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="NAME", help="base, initial, or best, the default; again for several."),
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
    folder: RunsFolder = Path("runs"),
    json: Json = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Measure policies of a run on held-out examples, or on tasks of the lm-evaluation-harness.

    Answers are greedy. The harness needs pip install "tspin-mlx[eval]".

    Example: tspin-mlx eval quickstart --policy base --policy best --data test.jsonl --metrics json_exact

    Example: tspin-mlx eval quickstart --harness gsm8k --limit 50
    """
    from .evaluate import evaluate as measure
    from .evaluate import evaluate_harness

    if iteration is not None and policy:
        raise typer.BadParameter("give --iteration or --policy, not both")
    policies = [str(iteration)] if iteration is not None else policy or ["best"]
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


@app.command()
def plan(recipe: RecipeName, overrides: Overrides = None, json: Json = False) -> None:
    """Show what a recipe would do, without doing it: phases, steps, seeds.

    Reads and checks the data files, but needs no model and no network.

    Example: tspin-mlx plan quickstart training.iterations=4
    """
    from .show import show_plan

    show_plan(recipe, overrides or [], as_json=json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, with every key's meaning.

    Example: tspin-mlx schema > recipe.schema.json
    """
    from ..recipe import Recipe

    _print_json(Recipe.model_json_schema())


@recipes_app.command("ls")
def recipes_ls(json: Json = False) -> None:
    """List the ready recipes."""
    from .show import show_recipes

    show_recipes(as_json=json)


@recipes_app.command("show")
def recipes_show(recipe: RecipeName, json: Json = False) -> None:
    """Print a recipe; with --json, with every default filled in."""
    from ..catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    if json:
        _print_json(parse_source(source).model_dump(mode="json"))
    else:
        typer.echo(source.text, nl=False)


@recipes_app.command("cp")
def recipes_cp(
    recipe: RecipeName,
    target: Annotated[Path, typer.Argument(help="New file; by default NAME.yaml here.")] = Path(),
) -> None:
    """Copy a ready recipe, to change it. Its data files are copied beside it.

    Example: tspin-mlx recipes cp quickstart my-task.yaml
    """
    from .show import copy_recipe

    copy_recipe(recipe, target)


@recipes_app.command("validate")
def recipes_validate(recipe: RecipeName, overrides: Overrides = None, json: Json = False) -> None:
    """Check a recipe's keys and values, without reading its data."""
    from ..catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    checked = parse_source(source, overrides or [])
    if json:
        _print_json(checked.model_dump(mode="json"))
    else:
        typer.echo(f"{source.name} is valid")


@runs_app.command("ls")
def runs_ls(folder: RunsFolder = Path("runs"), json: Json = False) -> None:
    """List the runs in a folder."""
    from .show import show_runs

    show_runs(folder, as_json=json)


@runs_app.command("show")
def runs_show(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
) -> None:
    """Show a run's held-out measures, its best policy, and answers before and after."""
    from .show import show_run

    show_run(run, folder, as_json=json)


def _chosen(iteration: int | None, policy: str | None) -> str:
    if iteration is not None and policy is not None:
        raise typer.BadParameter("give --iteration or --policy, not both")
    return policy or ("best" if iteration is None else str(iteration))


@runs_app.command("export")
def runs_export(
    run: RunName,
    file: Annotated[Path | None, typer.Argument(help="New file; without one, stdout.", metavar="[FILE]")] = None,
    svg: Annotated[bool, typer.Option("--svg", help="A picture of both advantages.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="A row per optimiser step, with every metric.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A list per metric, and the held-out measures.")] = False,
    folder: RunsFolder = Path("runs"),
) -> None:
    """Write a run's curves as a picture, or its metrics as numbers.

    Example: tspin-mlx runs export quickstart --svg advantages.svg
    """
    from .export_metrics import Format, export_metrics

    wanted: list[tuple[Format, bool]] = [("svg", svg), ("csv", csv), ("json", json)]
    export_metrics(run, folder, file, chosen=[name for name, given in wanted if given])


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))
