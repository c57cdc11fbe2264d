"""``export``: write an adapter, a GGUF model or triplets for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from ...base.errors import UsageError
from ...base.machine import awake
from ...recipe.policy_names import BEST
from ...runs.run import Run, find_run
from ..console import say
from ..options import BaseId, ExportName, Folder, Iteration, Json, Policy, RunName, TrustRemoteCode, chosen_policy

ExportFormat = Literal["mlx", "peft", "both", "gguf", "triplets"]


@awake()
def export(
    name: RunName,
    form: Annotated[ExportFormat, Option("--format", "-f", help="For which programs.")],
    folder: Folder = Path("runs"),
    iteration: Iteration = None,
    policy: Policy = None,
    out: ExportName = None,
    base: BaseId = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
) -> None:
    """Export the adapter for mlx-lm, PEFT (transformers, vLLM) or both; a GGUF model; or the triplets.

    `gguf` is the fused model in 16 bits, for Ollama and llama.cpp. `triplets` are preference data with TRL's columns,
    of all iterations unless --iteration picks one. Needs no network.

    Example: tspin-mlx export quickstart --format both
    """
    from ...export.adapter import export_adapter
    from ...export.ask import first_ask
    from ...export.gguf import export_gguf
    from ...export.source import open_source
    from ...export.upstream import no_base
    from ...export.usage import mlx_adapter, ollama_gguf, peft
    from ..exports import print_agreement, print_export, print_usage

    wanted = chosen_policy(iteration, policy)
    run = find_run(name, folder)
    if form == "triplets":
        _export_triplets(run, wanted, out, trusted=trust_remote_code, as_json=as_json)
        return
    source = open_source(run, wanted, base, trusted=trust_remote_code)
    made = export_gguf(source, out) if form == "gguf" else export_adapter(source, form, out)
    print_export(made, as_json=as_json)
    if as_json:
        return
    if form == "gguf":
        print_agreement(made)
        print_usage(ollama_gguf(str(made.path), run.name.lower()))
        return
    if form in ("peft", "both") and source.base.id is None:
        say(f"note: {no_base(source.base).message}; the PEFT adapter names no base model (--base OWNER/NAME does)")
    ask = first_ask(run, source.base.folder, source.adapter)
    if form in ("mlx", "both"):
        print_usage(mlx_adapter(str(source.base.folder), str(made.path), ask))
    if form in ("peft", "both"):
        print_usage(peft(source.base.id or "BASE", str(made.path), ask))


def _export_triplets(run: Run, policy: str, out: str | None, *, trusted: bool, as_json: bool) -> None:
    from ...export.triplets import FILE, export_triplets
    from ...export.usage import Way
    from ..exports import print_export, print_usage

    if policy != BEST and not policy.isdecimal():
        raise UsageError(
            f"--policy {policy!r}: triplets belong to an iteration",
            hint="--iteration N picks one; without, all are exported",
        )
    made = export_triplets(run, None if policy == BEST else int(policy), out, trusted=trusted)
    print_export(made, as_json=as_json)
    if as_json:
        return
    kind = "messages" if made.note["conversational"] else "texts"
    say(f"{made.note['rows']} rows; prompt, chosen, rejected and initial are {kind}")
    text = f'from datasets import load_dataset\n\ndata = load_dataset("json", data_files="{made.path / FILE}")["train"]'
    print_usage(Way("TRL", "python", text))
