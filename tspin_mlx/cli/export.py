"""``fuse``, ``export`` and ``push``: what leaves a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.errors import UsageError
from ..base.machine import awake
from ..export.adapter import export_adapter
from ..export.ask import first_ask
from ..export.folder import Export
from ..export.fuse import fuse
from ..export.gguf import export_gguf
from ..export.publish import repository
from ..export.push import Target, find_target, push, size_of
from ..export.source import Source, open_source
from ..export.triplets import FILE, export_triplets
from ..export.upstream import no_base
from ..export.usage import Way, mlx_adapter, mlx_model, ollama_gguf, peft, transformers_model
from ..recipe.policy_names import BEST
from ..runs.run import Run, find_run
from .console import confirm, say
from .output import print_json


@awake()
def fuse_run(
    name: str, folder: Path, *, policy: str, out: str | None, bits: int | None, max_kl: float | None, as_json: bool
) -> None:
    """``fuse``."""
    source = open_source(find_run(name, folder), policy, trusted=True)  # fuse refuses such models itself
    made = fuse(source, out, bits, max_kl, on_stage=say)
    if as_json:
        return _print_json(made)
    _tell(made)
    _tell_agreement(made)
    ask = first_ask(source.run, source.base.folder, source.adapter)
    ways = [mlx_model(str(made.path), ask)]
    _show([*ways, transformers_model(str(made.path), ask)] if bits is None else ways)
    return None


@awake()
def export_run(
    name: str,
    folder: Path,
    *,
    form: str,
    policy: str,
    out: str | None,
    base: str | None,
    trusted: bool,
    as_json: bool,
) -> None:
    """``export``."""
    run = find_run(name, folder)
    if form == "triplets":
        return _export_triplets(run, policy, out, trusted=trusted, as_json=as_json)
    source = open_source(run, policy, base, trusted=trusted)
    made = export_gguf(source, out) if form == "gguf" else export_adapter(source, form, out)  # type: ignore[arg-type]
    if as_json:
        return _print_json(made)
    _tell(made)
    if form == "gguf":
        _tell_agreement(made)
    if form in ("peft", "both") and source.base.id is None:
        say(f"note: {no_base(source.base).message}; PEFT is told of no base model (--base OWNER/NAME says it)")
    _show(_ways(source, made, form))
    return None


def push_run(
    name: str,
    folder: Path,
    repo: str,
    *,
    public: bool,
    fused: bool,
    policy: str,
    base: str | None,
    trusted: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """``push``."""
    from huggingface_hub.utils import disable_progress_bars

    source = open_source(find_run(name, folder), policy, base, trusted=trusted)
    if source.base.id is None:
        raise no_base(source.base)
    target = find_target(repo, public=public)
    made = fuse(source, on_stage=say) if fused else export_adapter(source, "both")
    files = repository(source, made, target.repo, fused=fused)
    _list(target, files)
    about = {"repo": target.repo, "private": target.private}
    listed = {"files": {name: size_of(content) for name, content in files.items()}}
    if dry_run:
        say("\nnothing was sent")
        if as_json:
            print_json({**about, **listed})
        return
    if not yes:
        confirm("Send these files?", "nothing was sent")
    if not sys.stderr.isatty():
        disable_progress_bars()  # whose escape codes have no place in logs
    pushed = push(target, files, f"{source.label} of {source.run.name}")
    if as_json:
        print_json({"url": pushed.url, "commit": pushed.commit, **about, **listed})
        return
    say("\npushed")
    typer.echo(f"{pushed.url}\ncommit {pushed.commit}")
    _show([_fetched(source, target.repo, fused)])


def _export_triplets(run: Run, policy: str, out: str | None, *, trusted: bool, as_json: bool) -> None:
    if policy != BEST and not policy.isdecimal():
        raise UsageError(
            f"--policy {policy!r}: triplets belong to an iteration",
            hint="--iteration N picks one; without, all are exported",
        )
    made = export_triplets(run, None if policy == BEST else int(policy), out, trusted=trusted)
    if as_json:
        return _print_json(made)
    _tell(made)
    kind = "messages" if made.note["conversational"] else "texts"
    say(f"{made.note['rows']} rows; prompt, chosen, rejected and initial are {kind}")
    text = f'from datasets import load_dataset\n\ndata = load_dataset("json", data_files="{made.path / FILE}")["train"]'
    _show([Way("TRL", "python", text)])
    return None


def _ways(source: Source, made: Export, form: str) -> list[Way]:
    path = str(made.path)
    if form == "gguf":
        return [ollama_gguf(path, source.run.name.lower())]
    ask, ways = first_ask(source.run, source.base.folder, source.adapter), []
    if form in ("mlx", "both"):
        ways.append(mlx_adapter(str(source.base.folder), path, ask))
    if form in ("peft", "both"):
        ways.append(peft(source.base.id or "BASE", path, ask))
    return ways


def _fetched(source: Source, repo: str, fused: bool) -> Way:
    ask = first_ask(source.run, source.base.folder, source.adapter)
    if fused:
        return mlx_model(repo, ask)
    return mlx_adapter(source.base.id or "", repo.split("/")[-1], ask, fetch=repo)


def _list(target: Target, files: dict[str, Path | bytes]) -> None:
    """What is about to be sent, where to, and who will see it; on stderr."""
    console = Console(stderr=True, highlight=False)
    seen = "private: only you and those you let in see it" if target.private else "PUBLIC: everybody sees it"
    there = "is there already" if target.exists else "will be made"
    console.print(Text(f"\n{target.repo} {there}; {seen}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, content in files.items():
        table.add_row(Text(f"  {name}"), _size(size_of(content)))
    table.add_row("", _size(sum(map(size_of, files.values()))), style="bold")
    console.print(table)
    if others := [name for name in target.others if name not in (*files, ".gitattributes")]:
        more = " …" if len(others) > 5 else ""
        console.print(Text(f"what else is there stays: {', '.join(others[:5])}{more}", style="yellow"), soft_wrap=True)


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _tell(made: Export) -> None:
    """The folder on stdout, what is in it on stderr."""
    say("made" if made.made else "made before, and unchanged")
    typer.echo(str(made.path))
    for file in made.files():
        say(f"  {file.relative_to(made.path).as_posix():<28} {_size(file.stat().st_size):>9}")


def _tell_agreement(made: Export) -> None:
    found = made.note["agreement"]
    known = "adapter_kl" in found  # not in exports of earlier versions
    itself = f"; the adapter itself makes {found['adapter_kl']:.2g}" if known else ""
    say(
        f"compared with the model and its adapter on {found['prompts']} held-out answers ({found['positions']} "
        f"positions): mean KL {found['kl']:.2g} nats (at most {found['max_kl']:.2g} is allowed{itself}),\n"
        f"the same greedy token at {found['greedy']:.1%}"
    )


def _show(ways: list[Way]) -> None:
    for way in ways:
        say(f"\nWith {way.program}:\n")
        say("\n".join(f"  {line}" for line in way.text.splitlines()))
        if way.remark:
            say(f"  ({way.remark})")


def _print_json(made: Export) -> None:
    content: dict[str, Any] = {"path": str(made.path), "made": made.made, **made.note}
    content["files"] = {file.relative_to(made.path).as_posix(): file.stat().st_size for file in made.files()}
    print_json(content)
