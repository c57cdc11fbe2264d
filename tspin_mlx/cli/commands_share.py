"""Commands that export and publish what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import Folder, Iteration, Json, Policy, RunName, TrustRemoteCode, chosen_policy

ExportName = Annotated[
    str | None, typer.Option("--out", "-o", help="Name of the new folder in runs/NAME/exports.", metavar="NAME")
]
BaseId = Annotated[
    str | None,
    typer.Option("--base", help="Hub id of the original of the base model, where its files do not say it."),
]
ExportFormat = Literal["mlx", "peft", "both", "gguf", "triplets"]


def fuse(
    run: RunName,
    folder: Folder = Path("runs"),
    iteration: Iteration = None,
    policy: Policy = None,
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
    from .export import fuse_run

    bits = int(quantize) if quantize else None
    fuse_run(run, folder, policy=chosen_policy(iteration, policy), out=out, bits=bits, max_kl=max_kl, as_json=json)


def export(
    run: RunName,
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="For which programs.")],
    folder: Folder = Path("runs"),
    iteration: Iteration = None,
    policy: Policy = None,
    out: ExportName = None,
    base: BaseId = None,
    trust_remote_code: TrustRemoteCode = False,
    json: Json = False,
) -> None:
    """Export the adapter for mlx-lm, PEFT (transformers, vLLM) or both; a GGUF model; or the triplets.

    `gguf` is the fused model in 16 bits, for Ollama and llama.cpp. `triplets` are preference data with TRL's columns,
    of all iterations unless --iteration picks one. Needs no network.

    Example: tspin-mlx export quickstart --format both
    """
    from .export import export_run

    export_run(
        run,
        folder,
        form=format,
        policy=chosen_policy(iteration, policy),
        out=out,
        base=base,
        trusted=trust_remote_code,
        as_json=json,
    )


def push(
    run: RunName,
    repo: Annotated[str, typer.Argument(help="owner/name on the Hub; a name alone is yours.", metavar="REPO")],
    folder: Folder = Path("runs"),
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    fused: Annotated[bool, typer.Option("--fused", help="Push a whole model instead of the adapter.")] = False,
    iteration: Iteration = None,
    policy: Policy = None,
    base: BaseId = None,
    trust_remote_code: TrustRemoteCode = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before sending.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, and where to; send nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Push the adapter, with a model card, to a private repository on the Hugging Face Hub.

    Shows every file first and asks. The adapter loads in mlx-lm and in PEFT. Of your data the card tells the sizes,
    the system prompt and, if it is from the Hub, the dataset's name; nothing else.

    Example: tspin-mlx push quickstart my-household-commands
    """
    from .export import push_run

    push_run(
        run,
        folder,
        repo,
        public=public,
        fused=fused,
        policy=chosen_policy(iteration, policy),
        base=base,
        trusted=trust_remote_code,
        yes=yes,
        dry_run=dry_run,
        as_json=json,
    )
