"""Messages about exports that ``fuse``, ``export`` and ``push`` share."""

from __future__ import annotations

import typer

from ..export.folder import Export
from ..export.usage import Way
from .console import say
from .output import file_size, print_json


def print_export(made: Export, *, as_json: bool) -> None:
    """Print the folder of an export on stdout, and the files in it on stderr; as JSON, all about it on stdout."""
    sizes = {file.relative_to(made.path).as_posix(): file.stat().st_size for file in made.files()}
    if as_json:
        print_json({"path": str(made.path), "made": made.made, **made.note, "files": sizes})
        return
    say("made" if made.made else "made before, and unchanged")
    typer.echo(str(made.path))
    for name, size in sizes.items():
        say(f"  {name:<28} {file_size(size):>9}")


def print_agreement(made: Export) -> None:
    """Print how closely a fused model agrees with the model and its adapter."""
    agreement = made.note["agreement"]
    known = "adapter_kl" in agreement  # not in exports of earlier versions
    own = f"; the adapter itself makes {agreement['adapter_kl']:.2g}" if known else ""
    say(
        f"compared with the model and its adapter on {agreement['prompts']} held-out answers "
        f"({agreement['positions']} positions): mean KL {agreement['kl']:.2g} nats "
        f"(at most {agreement['max_kl']:.2g} is allowed{own}),\n"
        f"the same greedy token at {agreement['greedy']:.1%}"
    )


def print_usage(way: Way) -> None:
    """Print how to use an export in another program."""
    say(f"\nWith {way.program}:\n")
    say("\n".join(f"  {line}" for line in way.text.splitlines()))
    if way.remark:
        say(f"  ({way.remark})")
