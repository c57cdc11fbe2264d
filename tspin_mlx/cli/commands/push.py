"""``push``: send an adapter or a fused model to the Hugging Face Hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from ..console import confirm, say
from ..options import BaseId, Folder, Iteration, Json, Policy, RunName, TrustRemoteCode, chosen_policy
from ..output import file_size, plain_table, print_json


def push(
    name: RunName,
    repo: Annotated[str, Argument(help="owner/name on the Hub; a name alone is yours.", metavar="REPO")],
    folder: Folder = Path("runs"),
    public: Annotated[bool, Option("--public", help="Let everybody see it.")] = False,
    fused: Annotated[bool, Option("--fused", help="Push a whole model instead of the adapter.")] = False,
    iteration: Iteration = None,
    policy: Policy = None,
    base: BaseId = None,
    trust_remote_code: TrustRemoteCode = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask before sending.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Show what would be sent, and where to; send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Push the adapter, with a model card, to a private repository on the Hugging Face Hub.

    Shows every file first and asks. The adapter loads in mlx-lm and in PEFT. Of your data, the card contains the sizes,
    the system prompt and, if it is from the Hub, the dataset's name; nothing else.

    Example: tspin-mlx push quickstart my-household-commands
    """
    from huggingface_hub.utils import disable_progress_bars

    from ...export.ask import first_ask
    from ...export.publish import prepare_push
    from ...export.push import push as send
    from ...export.push import size_of
    from ...export.source import open_source
    from ...export.usage import mlx_adapter, mlx_model
    from ...runs.run import find_run
    from ..exports import print_usage

    wanted = chosen_policy(iteration, policy)
    source = open_source(find_run(name, folder), wanted, base, trusted=trust_remote_code)
    ready = prepare_push(source, repo, public=public, fused=fused, on_stage=say)
    target, files = ready.target, ready.files
    sizes = {file: size_of(content) for file, content in files.items()}
    console = Console(stderr=True, highlight=False)
    seen = "private: only you and those you let in see it" if target.private else "PUBLIC: everybody sees it"
    there = "is there already" if target.exists else "will be made"
    console.print(Text(f"\n{target.repo} {there}; {seen}"), soft_wrap=True)
    table = plain_table("", "size", right=["size"])
    table.show_header = False
    for file, size in sizes.items():
        table.add_row(Text(f"  {file}"), file_size(size))
    table.add_row("", file_size(sum(sizes.values())), style="bold")
    console.print(table)
    if others := [file for file in target.others if file not in (*sizes, ".gitattributes")]:
        more = " …" if len(others) > 5 else ""
        console.print(Text(f"other files there stay: {', '.join(others[:5])}{more}", style="yellow"), soft_wrap=True)
    row = {"repo": target.repo, "private": target.private, "files": sizes}
    if dry_run:
        say("\nnothing was sent")
        if as_json:
            print_json(row)
        return
    if not yes:
        confirm("Send these files?", "nothing was sent")
    if not sys.stderr.isatty():
        disable_progress_bars()  # their escape codes do not belong in logs
    pushed = send(target, files, ready.message)
    if as_json:
        print_json({"url": pushed.url, "commit": pushed.commit, **row})
        return
    say("\npushed")
    typer.echo(f"{pushed.url}\ncommit {pushed.commit}")
    ask = first_ask(source.run, source.base.folder, source.adapter)
    if fused:
        print_usage(mlx_model(target.repo, ask))
    else:
        print_usage(mlx_adapter(source.base.id or "", target.repo.split("/")[-1], ask, fetch=target.repo))
