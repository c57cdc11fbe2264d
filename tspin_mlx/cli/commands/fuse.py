"""``fuse``: merge an adapter into its base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from ...base.machine import awake
from ..console import say
from ..options import ExportName, Folder, Iteration, Json, Policy, RunName, chosen_policy


@awake()
def fuse(
    name: RunName,
    folder: Folder = Path("runs"),
    iteration: Iteration = None,
    policy: Policy = None,
    out: ExportName = None,
    quantize: Annotated[
        Literal["4", "8"] | None, Option("--quantize", "-q", help="Quantise the result to 4 or 8 bits.")
    ] = None,
    max_kl: Annotated[
        float | None, Option(min=0, help="Largest mean KL to the model with its adapter, in nats (0.005).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a whole model of the base model and the adapter, and check that it is the same model.

    Weights are dequantised first. The result is compared with the model and its adapter on held-out answers; if they
    differ too much, nothing is kept. Needs no network.

    Example: tspin-mlx fuse quickstart

    Example: tspin-mlx fuse quickstart --iteration 2 --quantize 8
    """
    from ...export.ask import first_ask
    from ...export.fuse import fuse as fuse_policy
    from ...export.source import open_source
    from ...export.usage import mlx_model, transformers_model
    from ...runs.run import find_run
    from ..exports import print_agreement, print_export, print_usage

    wanted = chosen_policy(iteration, policy)
    source = open_source(find_run(name, folder), wanted, trusted=True)  # models with code are refused when fusing
    bits = int(quantize) if quantize else None
    made = fuse_policy(source, out, bits, max_kl, on_stage=say)
    print_export(made, as_json=as_json)
    if as_json:
        return
    print_agreement(made)
    ask = first_ask(source.run, source.base.folder, source.adapter)
    print_usage(mlx_model(str(made.path), ask))
    if bits is None:
        print_usage(transformers_model(str(made.path), ask))
