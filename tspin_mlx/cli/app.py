"""All commands, their options and their help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    name="tspin-mlx",
    help="Teach a language model a task by triplet self-play (T-SPIN), on this machine, with MLX.",
    epilog="Start with: tspin-mlx quickstart",
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
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model, with your rights.")
]
StopAfter = Literal["step", "iteration"]
RunName = Annotated[str, typer.Argument(help="A run's name in the folder, or its path.", metavar="RUN")]
RunsFolder = Annotated[Path, typer.Option("--folder", help="Folder that holds the runs.")]


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
def quickstart(overrides: Overrides = None, json: Json = False, detach: Detach = False) -> None:
    """Watch the built-in model learn household commands, in a few minutes.

    Fetches a model of 93 MB the first time. The same as `tspin-mlx run quickstart`.

    Example: tspin-mlx quickstart
    """
    from .run import run_recipe

    run_recipe("quickstart", overrides or [], as_json=json, introduce=True, detach=detach)


@app.command()
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    json: Json = False,
    detach: Detach = False,
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

    run_recipe(recipe, overrides or [], as_json=json, detach=detach, fork=fork, trusted=trust_remote_code)


@app.command()
def resume(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    json: Json = False,
    detach: Detach = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Go on with a run that was stopped, killed or failed, exactly where it was.

    Example: tspin-mlx resume quickstart
    """
    from .run import resume_run

    resume_run(run, folder, as_json=json, detach=detach, trusted=trust_remote_code)


@app.command()
def watch(
    run: RunName,
    folder: RunsFolder = Path("runs"),
    plain: Annotated[bool, typer.Option("--plain", help="Lines only, also on a terminal.")] = False,
    json: Json = False,
) -> None:
    """Watch a run that goes on in the background; Ctrl-C leaves it running.

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


PolicyName = Annotated[
    str, typer.Option("--iteration", "-i", help="Which one: a number, initial, or best.", metavar="N")
]
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
    iteration: PolicyName = "best",
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
    fuse_run(run, folder, iteration=iteration, out=out, bits=bits, max_kl=limit, as_json=json)


@app.command()
def export(
    run: RunName,
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="For which programs.")],
    folder: RunsFolder = Path("runs"),
    iteration: PolicyName = "best",
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
        run, folder, form=format, iteration=iteration, out=out, base=base, trusted=trust_remote_code, as_json=json
    )


@app.command()
def push(
    run: RunName,
    repo: Annotated[str, typer.Argument(help="owner/name on the Hub; a name alone is yours.", metavar="REPO")],
    folder: RunsFolder = Path("runs"),
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    fused: Annotated[bool, typer.Option("--fused", help="Push a whole model instead of the adapter.")] = False,
    iteration: PolicyName = "best",
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
        iteration=iteration,
        base=base,
        trusted=trust_remote_code,
        yes=yes,
        as_json=json,
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
